// Channels-last-1d: a (N, C, L) tensor with strides (C * L, 1, C).
#pragma once
#include <ATen/ATen.h>

namespace blackwell_compat {

// Says no where the layout is contiguous as well (one channel or one position): then nothing is to be kept.
inline bool is_channels_last_1d(const at::Tensor& t) {
  return t.dim() == 3 && t.sym_size(1) != 1 && t.sym_size(2) != 1 && t.sym_stride(1) == 1 && t.sym_stride(2) == t.sym_size(1) &&
         (t.sym_size(0) == 1 || t.sym_stride(0) == t.sym_size(1) * t.sym_size(2));
}

inline at::Tensor empty_1d(c10::SymInt n, c10::SymInt c, c10::SymInt l, bool channels_last, const at::TensorOptions& options) {
  if (!channels_last) return at::empty_symint({n, c, l}, options);
  return at::empty_strided_symint({n, c, l}, {c * l, 1, c}, options);
}

}  // namespace blackwell_compat
