// 1-D convolutions on a card by this package's kernels (kernels/conv1d.cu).
#pragma once
#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <vector>

#include "common/activation.h"

namespace blackwell_compat {

// Plain: out[l] takes input[l * stride - padding + t * dilation]. Transposed: the other way round.
struct ConvShape {
  int64_t stride, padding, dilation, groups;
  bool transposed;
};

// (N, C, L) of (C, L); an undefined tensor stays that.
inline at::Tensor batched(const at::Tensor& t) { return t.defined() && t.dim() == 2 ? t.unsqueeze(0) : t; }

// out = act(conv(pre(input), weight) + bias) + residual. input (N, C_in, L_in) and residual of any strides, `out` (N, C_out,
// L_out) dense in either layout; bias and residual may be undefined. weight (C_out, C_in / groups, K), transposed (C_in, C_out /
// groups, K). dtypes are those that gemm_takes. Sums are float32's (float64's); those of float32 take TF32 where PyTorch may
// (torch.backends.cudnn.allow_tf32).
void conv_cuda(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& residual,
               const ConvShape& shape, Activation pre, Activation act, const at::Tensor& out);

// The gradient of a weight of `size`. `shorter` is what it has for channels in dimension 0: the gradient of the result of a plain
// convolution, the input of a transposed one; `longer` is the other.
at::Tensor conv_weight_grad_cuda(const at::Tensor& shorter, const at::Tensor& longer, const ConvShape& shape,
                                 at::IntArrayRef size);

// The sums of grad (N, C, L) over N and L.
at::Tensor conv_bias_grad_cuda(const at::Tensor& grad);

// The kernels that forward convolutions of `dtype` may take on a card of compute `capability` (120 is 12.0).
std::vector<std::string> conv_kernels(at::ScalarType dtype, int capability);

}  // namespace blackwell_compat
