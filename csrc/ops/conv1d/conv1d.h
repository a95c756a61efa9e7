// compat_conv1d: y = act(conv1d(pre(input), weight) + bias) + residual.
#pragma once
#include <ATen/core/stack.h>

#include "common/activation.h"
#include "common/dispatch.h"

namespace blackwell_compat {

struct Conv1dOptions {
  int64_t stride, padding, dilation, groups;
  Activation pre, act;
};

// The dispatched op.
Tensor compat_conv1d(const Tensor& input, const Tensor& weight, const OptTensor& bias, c10::SymIntArrayRef stride,
                     c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, c10::SymInt groups,
                     c10::string_view pre_activation, double pre_slope, c10::string_view activation, double slope,
                     const OptTensor& residual);

// With oneDNN in blocks, in conv1d_cpu.cpp; not defined where ATen has to do it.
Tensor conv1d_cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias, const Conv1dOptions& options,
                  const OptTensor& residual);

// With this package's kernels, in conv1d_cuda.cpp, for dtypes that gemm_takes.
Tensor conv1d_cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias, const Conv1dOptions& options,
                   const OptTensor& residual);
std::tuple<Tensor, Tensor, Tensor> conv1d_backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                        const Conv1dOptions& options, std::array<bool, 3> mask);

// Attempts at aten::convolution and its backward, in conv1d_functions.cpp: plain and transposed ones of one dimension.
bool convolution_1d(torch::jit::Stack* stack);
bool convolution_1d_backward(torch::jit::Stack* stack);

// First line of every kernel.
void conv1d_check(const Tensor& input, const Tensor& weight, const OptTensor& bias, c10::SymIntArrayRef stride,
                  c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, const c10::SymInt& groups);

// A float32 weight of `size` (C_out, C_in / groups, K) that exists only packed, for conv1d_packed.cpp.
Tensor conv1d_pack(const Tensor& weight, int64_t dilation, int64_t groups);
Tensor conv1d_unpack(const Tensor& packed, at::IntArrayRef size, int64_t dilation, int64_t groups);
int64_t conv1d_packed_size(at::IntArrayRef size, int64_t dilation, int64_t groups);  // floats
Tensor conv1d_packed_cpu(const Tensor& input, const Tensor& packed, at::IntArrayRef size, const OptTensor& bias,
                         const Conv1dOptions& options);

}  // namespace blackwell_compat
