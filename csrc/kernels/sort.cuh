// Rows of numbers in order: sort, topk, kthvalue, median. What the host and the card share.
#pragma once
#include "kernels/scalar.cuh"

namespace blackwell_compat {

constexpr int kSortThreads = 256, kSortDims = 4;
constexpr int kSortSmall = 2048;                                     // elements that a block sorts in shared memory
constexpr int kSortSmallBytes = kSortSmall * 12;                     // a key of 64 bits and an index
constexpr int kSortTile = 2048, kSortDigits = 256;                   // of a pass over longer rows
constexpr int kSortMoveBytes = kSortThreads / 32 * kSortDigits * 4;  // a count per warp and digit
constexpr int kSortCountBytes = kSortDigits * 4;

// Which places of the sorted row are written
enum class SortPick : int { kRange, kMedian, kMedianOfNumbers };

// Rows lie along a dimension of `stride` elements in `from` and of `to_stride` in the results; the other dimensions (the last of
// `sizes`) number the rows. NaN is the largest number; equal ones stay in order.
struct SortParams {
  const void* from;
  void* values;        // may be null
  long long* indices;  // may be null
  long long stride, to_stride, strides[kSortDims], to_strides[kSortDims];
  unsigned sizes[kSortDims], rows, size;  // size: of a row
  unsigned first, kept;                   // of a range
  ScalarKind kind;
  SortPick pick;
  bool descending;
  // Rows that a block sorts: elements of each, padded to a power of two, and how many rows
  unsigned padded, rows_of_block;
  // Longer rows: (rows, size) keys and places from the last pass and for the next one; (rows, tiles, digits) counts
  const void* keys;
  void* keys_to;
  const unsigned* places;
  unsigned *places_to, *counts;
  unsigned tiles;
  int shift;  // the digit of this pass
};

}  // namespace blackwell_compat
