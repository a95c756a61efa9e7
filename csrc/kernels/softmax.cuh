// softmax and log_softmax along one dimension, and their gradients. What the host and the card share.
#pragma once
#include "kernels/team.cuh"

namespace blackwell_compat {

// What a result is stored as: in the kernel's dtype or, beside softmax in float32 of half precision, in another
enum class SoftmaxOut : int { kSame, kFloat, kHalf, kBFloat16 };

// Dense tensors of (outer, n, inner) values. With an inner of 1 a row is `outer`'s, by a team; else a column is (outer, inner)'s,
// and a block has `columns`.
struct SoftmaxParams {
  const void *in, *grad;  // backward `in` is the result of the forward
  void* out;
  long long outer, n, inner;
  int team, columns;
  SoftmaxOut out_kind;
  bool packs, log;
};

}  // namespace blackwell_compat
