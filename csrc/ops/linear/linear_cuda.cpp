// compat_linear on a card that this package's kernels serve: matrix products without copies of the operands.
#include <ATen/TensorUtils.h>

#include "common/gemm_cuda.h"
#include "ops/linear/linear.h"

namespace blackwell_compat {
namespace {

// (rows, K), or (batch, rows, K) where the rows do not lie evenly.
Tensor as_rows(const Tensor& input) {
  const int64_t k = input.size(-1), m = input.numel() / std::max<int64_t>(k, 1);
  if (input.dim() == 2) return input;
  if (k == 0) return input.reshape({c10::multiply_integers(input.sizes().slice(0, input.dim() - 1)), 0});
  if (input.numel() == 0 || at::detail::computeStride(input.sizes(), input.strides(), c10::DimVector{m, k})) {
    return input.view({m, k});
  }
  return input.dim() == 3 ? input : input.contiguous().view({m, k});
}

}  // namespace

Tensor linear_cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act) {
  if (!gemm_takes(input.scalar_type())) return linear_aten(input, weight, bias, pre, act);
  const Tensor x = apply_activation(input, pre);
  const bool vector = weight.dim() == 1;
  auto sizes = x.sizes().vec();
  sizes.pop_back();
  if (!vector) sizes.push_back(weight.size(0));
  return gemm_cuda(as_rows(x), vector ? weight.unsqueeze(0) : weight, value_or_undefined(bias), act).view(sizes);
}

std::tuple<Tensor, Tensor, Tensor> linear_backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                        std::array<bool, 3> mask) {
  const Tensor g = as_rows(grad.dim() == 1 ? grad.unsqueeze(0) : grad);
  std::tuple<Tensor, Tensor, Tensor> grads;
  if (mask[0]) std::get<0>(grads) = gemm_cuda(g, weight.t(), {}, {}).view(input.sizes());
  if (!mask[1] && !mask[2]) return grads;
  const Tensor rows = g.dim() == 2 ? g : g.contiguous().view({-1, g.size(-1)});
  if (mask[1]) {
    const Tensor x = as_rows(input.dim() == 1 ? input.unsqueeze(0) : input);
    const Tensor flat = x.dim() == 2 ? x : x.contiguous().view({-1, x.size(-1)});
    std::get<1>(grads) = gemm_cuda(rows.t(), flat.t(), {}, {});
  }
  if (mask[2]) std::get<2>(grads) = sum_rows_cuda(rows);
  return grads;
}

}  // namespace blackwell_compat
