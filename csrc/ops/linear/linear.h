// compat_linear: y = act(pre(input) weight^T + bias).
#pragma once
#include "common/activation.h"
#include "common/dispatch.h"

namespace blackwell_compat {

// The dispatched op.
Tensor compat_linear(const Tensor& input, const Tensor& weight, const OptTensor& bias, c10::string_view pre_activation,
                     double pre_slope, c10::string_view activation, double slope);

// First line of meta and of every backend: one wording.
void linear_check(const Tensor& input, const Tensor& weight, const OptTensor& bias);

// With ATen's kernels: any device and dtype, differentiable.
Tensor linear_aten(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act);

// With oneDNN and packed weights, in linear_cpu.cpp; linear_aten where it does not apply.
Tensor linear_cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act);

// With this package's kernels, in linear_cuda.cpp; linear_aten where they do not take the dtype.
Tensor linear_cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act);
std::tuple<Tensor, Tensor, Tensor> linear_backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                        std::array<bool, 3> mask);

// A float32 weight (N, K) that exists only packed, for linear_packed.cpp.
Tensor linear_pack(const Tensor& weight);
Tensor linear_unpack(const Tensor& packed, int64_t n, int64_t k);
int64_t linear_packed_size(int64_t n, int64_t k);  // floats
Tensor linear_packed_cpu(const Tensor& input, const Tensor& packed, const OptTensor& bias, int64_t n, Activation pre,
                         Activation act);

}  // namespace blackwell_compat
