// Half precision is computed in float32 where an op is made of several, and rounded once.
#pragma once
#include <ATen/ATen.h>

namespace blackwell_compat {

inline at::Tensor wide(const at::Tensor& tensor) {
  return at::isReducedFloatingType(tensor.scalar_type()) ? tensor.to(at::kFloat) : tensor;
}

}  // namespace blackwell_compat
