// Tensors made of numbers: arange, linspace, eye; and triangles of tensors. What the host and the card share.
#pragma once
#include "kernels/scalar.cuh"

namespace blackwell_compat {

constexpr int kRangeThreads = 256, kBandDims = 5;

// to[i] = start + i * step; from `half` on, end - (size - 1 - i) * step. Integers are whole, or numbers of `real` cut off.
struct RangeParams {
  void* to;
  long long size, half, whole_start, whole_step;
  double start, step, end;
  ScalarKind kind;
  bool real;
};

// to (..., rows, columns) = from, or `value` where that is null, at low <= column - row <= high; zeros elsewhere. Strides count
// elements; the rows and columns are the last two dimensions.
struct BandParams {
  const void* from;
  void* to;
  long long from_strides[kBandDims], to_strides[kBandDims], low, high;
  unsigned sizes[kBandDims], elements;
  unsigned value[4];  // an element's bytes
};

}  // namespace blackwell_compat
