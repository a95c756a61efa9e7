// What the ops of windows share: their arguments, the tensors as volumes, and the launch.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <string>

#include "kernels/pool.cuh"

namespace blackwell_compat {

// Of kernel_size, stride, padding, dilation (null: 1) and ceil_mode; a list of one value is for every axis
struct Windows {
  const c10::IValue &kernel, &stride, &padding;
  const c10::IValue* dilation;
  bool ceil_mode;
};

// Sizes of a result for `self`, which has `axes` axes behind its channels and maybe a batch before them. Empty where PyTorch
// would take issue, and where there is no kernel.
std::vector<int64_t> pooled_sizes(const at::Tensor& self, size_t axes, const Windows& windows, PoolParams& p);
// The same for windows that share the volume among results of `output_size`, or of as many as a gradient has
std::vector<int64_t> adaptive_sizes(const at::Tensor& self, size_t axes, at::IntArrayRef output_size, PoolParams& p);
std::vector<int64_t> adaptive_sizes_of(const at::Tensor& grad, const at::Tensor& self, size_t axes, PoolParams& p);
// How results of adaptive windows lie in memory
at::MemoryFormat adaptive_format(const at::Tensor& self, size_t axes);

// From `in` to the dense `out`, and to or with `places`, all of them with `axes` axes.
void launch_pool(const std::string& kernel, PoolParams& p, size_t axes, const at::Tensor& in, const at::Tensor& out,
                 const at::Tensor& places = {});

}  // namespace blackwell_compat
