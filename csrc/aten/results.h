// What attempts of any room do with results.
#pragma once
#include <ATen/ATen.h>

#include "common/own_kernels.h"

namespace blackwell_compat {

// The result of a call: by PyTorch's rules where it is given (out=, in place), otherwise new, dense and with these sizes.
// Undefined where one of another dtype is given, about which the CPU's kernel knows what to say.
inline at::Tensor result_of(const c10::OperatorHandle& op, const torch::jit::Stack& stack, at::IntArrayRef sizes,
                            const at::TensorOptions& options) {
  if (!op.schema().is_mutable()) return at::empty(sizes, options);
  const at::Tensor given = results_of(op, stack).front();
  return given.scalar_type() == options.dtype().toScalarType() ? given : at::Tensor();
}

// `result`, or where it is not dense or of another dtype a tensor that finish() copies there
inline at::Tensor dense_for(const at::Tensor& result, at::ScalarType dtype) {
  const bool suits = result.is_contiguous() && result.scalar_type() == dtype;
  return suits ? result : at::empty(result.sizes(), result.options().dtype(dtype));
}
inline void finish(const at::Tensor& dense, const at::Tensor& result) {
  if (!dense.is_same(result)) result.copy_(dense);
}

}  // namespace blackwell_compat
