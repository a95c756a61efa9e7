// y = x w^T + b in bfloat16 or float16, where the CPU computes in them (compute_dtype says so).
#pragma once
#include "common/activation.h"
#include "common/pack_cache.h"

namespace blackwell_compat {

Packed pack_half_matmul(const at::Tensor& weight, at::ScalarType dtype);

// x: (*, K), y: (*, N), contiguous, of the packed dtype; bias: (N) or undefined.
void half_matmul(const at::Tensor& x, const Packed& weight, const at::Tensor& bias, Activation act, const at::Tensor& y);

}  // namespace blackwell_compat
