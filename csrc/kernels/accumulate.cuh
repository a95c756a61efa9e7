// Sums and other reductions of what indices send to the same elements. What the host and the card share.
#pragma once

namespace blackwell_compat {

constexpr int kAccumulateThreads = 256, kAccumulateDims = 5, kMostAccumulateIndices = 6;

enum class Reduce : int { kSum, kProduct, kMean, kMaximum, kMinimum };

// keys[i] = where element i goes: the sum of its steps in some dimensions (the last of `sizes`) and of the rows that the indices
// name; negative where the (first) index is `skipped`. Strides count elements, those of the indices by dimension.
struct KeysParams {
  void* keys;
  const void* indices[kMostAccumulateIndices];
  long long row_strides[kMostAccumulateIndices], rows[kMostAccumulateIndices];
  long long strides[kAccumulateDims], index_strides[kAccumulateDims], skipped;
  unsigned sizes[kAccumulateDims], size;
  int count;
  bool wide, wide_keys, skips;
};

// to[keys[i] + j] becomes the reduction of from[order[k], j] over all k of that key, in order; keys are sorted. j runs over the
// dimensions of `sizes`, `width` elements. An element that no key names stays.
struct AccumulateParams {
  const void *keys, *from;
  const long long* order;
  void* to;
  long long from_stride, from_strides[kAccumulateDims], to_strides[kAccumulateDims];
  unsigned sizes[kAccumulateDims], width, count;
  Reduce reduce;
  bool wide_keys, with_self;  // with_self: what was there is part of it
};

}  // namespace blackwell_compat
