// Elements of a table that indices name: read (gather, index_select, index) or written (scatter, index_put). What the host and
// the card share.
#pragma once

namespace blackwell_compat {

constexpr int kIndexThreads = 256, kIndexUnitsOfThread = 4, kIndexDims = 5, kMostIndices = 6;

// For each element of some dimensions (the last `dims`; the others have one element): indices[k] has at index_strides, which all
// of them share, the row of dimension k of the table, where row -1 is the last. Strides count units, those of the indices
// elements.
struct IndexParams {
  void* to;
  const void* from;  // of a write, null: `value`
  const void* indices[kMostIndices];
  long long row_strides[kMostIndices], rows[kMostIndices];
  long long to_strides[kIndexDims], from_strides[kIndexDims], index_strides[kIndexDims];
  unsigned sizes[kIndexDims], size;
  int dims, count;
  bool wide;          // indices are 64-bit
  unsigned value[4];  // an element's bytes
};

}  // namespace blackwell_compat
