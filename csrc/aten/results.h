// What attempts of any room do with results.
#pragma once
#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/native/Resize.h>

#include "common/own_kernels.h"

namespace blackwell_compat {

// A tensor that a call wants its result in, resized as PyTorch would. Undefined where PyTorch may have something to say about it:
// the CPU's kernel does then.
inline at::Tensor resized(const at::Tensor& given, at::IntArrayRef sizes, at::ScalarType dtype, const at::Tensor& self) {
  if (given.scalar_type() != dtype || !given.is_cuda() || given.layout() != c10::kStrided ||
      at::has_internal_overlap(given) == at::MemOverlap::Yes || (given.is_alias_of(self) && !given.is_same(self))) {
    return {};
  }
  if (!given.is_same(self)) at::native::resize_output(given, sizes);
  return given;
}

// The result of a call on `self`: the one that is given (the last argument, or in place the first), or else new and dense
inline at::Tensor result_of(const c10::OperatorHandle& op, const torch::jit::Stack& stack, const at::Tensor& self,
                            at::IntArrayRef sizes, at::ScalarType dtype) {
  const auto& arguments = op.schema().arguments();
  if (!op.schema().is_mutable()) return at::empty(sizes, self.options().dtype(dtype));
  const bool in_place = arguments.front().alias_info() != nullptr;
  return resized(in_place ? self : stack.back().toTensor(), sizes, dtype, self);
}

inline const void* data_of(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr() : nullptr; }

// `result`, or where it is not dense or of another dtype a tensor that finish() copies there
inline at::Tensor dense_for(const at::Tensor& result, at::ScalarType dtype) {
  const bool suits = result.is_contiguous() && result.scalar_type() == dtype;
  return suits ? result : at::empty(result.sizes(), result.options().dtype(dtype));
}
inline void finish(const at::Tensor& dense, const at::Tensor& result) {
  if (!dense.is_same(result)) result.copy_(dense);
}

}  // namespace blackwell_compat
