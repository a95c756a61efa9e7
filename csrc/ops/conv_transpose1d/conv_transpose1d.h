// compat_conv_transpose1d: y = act(conv_transpose1d(pre(input), weight) + bias).
#pragma once
#include "common/activation.h"
#include "common/dispatch.h"

namespace blackwell_compat {

struct ConvTranspose1dOptions {
  int64_t stride, padding, output_padding, groups, dilation;
  Activation pre, act;
};

// The dispatched op.
Tensor compat_conv_transpose1d(const Tensor& input, const Tensor& weight, const OptTensor& bias, c10::SymIntArrayRef stride,
                               c10::SymIntArrayRef padding, c10::SymIntArrayRef output_padding, c10::SymInt groups,
                               c10::SymIntArrayRef dilation, c10::string_view pre_activation, double pre_slope,
                               c10::string_view activation, double slope);

// With oneDNN in blocks, in conv_transpose1d_cpu.cpp; not defined where ATen has to do it.
Tensor conv_transpose1d_cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias,
                            const ConvTranspose1dOptions& options);

// With this package's kernels, in conv_transpose1d_cuda.cpp, for dtypes that gemm_takes.
Tensor conv_transpose1d_cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias,
                             const ConvTranspose1dOptions& options);
std::tuple<Tensor, Tensor, Tensor> conv_transpose1d_backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                                  const ConvTranspose1dOptions& options,
                                                                  std::array<bool, 3> mask);

// First line of every kernel.
void conv_transpose1d_check(const Tensor& input, const Tensor& weight, const OptTensor& bias, c10::SymIntArrayRef stride,
                            c10::SymIntArrayRef padding, c10::SymIntArrayRef output_padding, const c10::SymInt& groups,
                            c10::SymIntArrayRef dilation);

// A float32 weight of `size` (C_in, C_out, K) that exists only packed, for conv_transpose1d_packed.cpp; one group, dilation 1.
Tensor conv_transpose1d_pack(const Tensor& weight, int64_t stride);
Tensor conv_transpose1d_unpack(const Tensor& packed, at::IntArrayRef size, int64_t stride);
int64_t conv_transpose1d_packed_size(at::IntArrayRef size, int64_t stride);  // floats
Tensor conv_transpose1d_packed_cpu(const Tensor& input, const Tensor& packed, at::IntArrayRef size, const OptTensor& bias,
                                   const ConvTranspose1dOptions& options);

}  // namespace blackwell_compat
