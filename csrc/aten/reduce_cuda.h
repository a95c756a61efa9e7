// Reductions of tensors over dimensions by kernels/reduce.cu, for the rooms that need some.
#pragma once
#include <ATen/ATen.h>

#include <bitset>

#include "kernels/reduce.cuh"

namespace blackwell_compat {

using Dims = std::bitset<64>;

bool reduce_takes(const at::Tensor& self);

// `kernel` is what it is called by ("sum_f32"), `p` says what it wants beside sizes. The results are dense and have an element
// for each place in the dimensions that are not in `dims`; the kernel allows one of them to be undefined. With `ordered` those in
// `dims` are counted as they follow each other, for the indices of extremes.
void reduce_cuda(const std::string& kernel, ReduceParams p, const at::Tensor& self, Dims dims, const at::Tensor& out,
                 const at::Tensor& second = {}, bool ordered = false);

// Into `out`, in its dtype: that of `self`, or float32 of half precision
void sum_cuda(const at::Tensor& self, Dims dims, const at::Tensor& out);

}  // namespace blackwell_compat
