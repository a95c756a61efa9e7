// Reductions of a tensor over some of its dimensions. What the host and the card share.
#pragma once

namespace blackwell_compat {

constexpr int kReduceThreads = 256, kReduceDims = 6, kReduceSharedBytes = kReduceThreads * 32;

// A dimension's size, and the elements between its neighbours; the innermost first
struct ReduceDims {
  long long size[kReduceDims], stride[kReduceDims];
  int count;
};

enum class ReduceKind : int { kPlain, kMean, kMax, kMin, kAny, kAll, kVar, kStd, kRstd };
enum class NormKind : int { kSizes, kSquares, kNonzero, kPower, kLargest, kSmallest };

// out[i] = the reduction of the `n` values in[kept(i) + reduced(r)]. `lanes` threads, a power of two, share an output; adjacent
// threads have the same output's neighbours in r, or `across` those of adjacent outputs. With several splits each has `part` of
// r and leaves what it has in `partial` (splits, outputs), from which another launch makes the result: one that `combines`.
struct ReduceParams {
  const void* in;
  void *out, *second;  // either may be null. The second: indices of extremes, means of variances
  void* partial;
  long long outputs, n, part, output_blocks;
  ReduceDims kept, reduced;
  double order;       // of a norm that is a power
  double correction;  // of a variance; what is added to it for rstd
  int lanes, splits, ignored_bits;
  ReduceKind kind;
  NormKind norm;
  bool combines, across, packs, wide;  // wide: results are stored as they are computed, float32 or int64
};

}  // namespace blackwell_compat
