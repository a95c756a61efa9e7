// compat_linear on a card that this package's kernels serve: matrix products, without copies of the operands.
#include <ATen/TensorUtils.h>

#include "common/gemm_cuda.h"
#include "ops/linear/linear.h"

namespace blackwell_compat {
namespace {

// (rows, K), where the rows of `input` lie evenly.
std::optional<Tensor> as_rows(const Tensor& input) {
  const int64_t k = input.size(-1);
  const auto rows = c10::multiply_integers(input.sizes().slice(0, input.dim() - 1));
  if (input.dim() == 2) return input;
  if (input.numel() == 0 || at::detail::computeStride(input.sizes(), input.strides(), c10::DimVector{rows, k})) {
    return input.view({rows, k});
  }
  return std::nullopt;
}

void forward_into(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation act, const Tensor& out) {
  const auto rows = as_rows(x);
  if (rows) return gemm_cuda(*rows, weight, bias, act, out.view({rows->size(0), weight.size(0)}));
  if (x.dim() == 3) return gemm_cuda(x, weight, bias, act, out);
  for (int64_t i = 0; i < x.size(0); ++i) forward_into(x[i], weight, bias, act, out[i]);
}

// Adds what grad (..., N) and input (..., K) give to the gradients of weight and bias, which are undefined at first.
void add_backward(const Tensor& grad, const Tensor& input, bool want_weight, bool want_bias, Tensor& weight_grad,
                  Tensor& bias_grad) {
  const auto g = as_rows(grad), x = as_rows(input);
  if (!g || !x) {
    for (int64_t i = 0; i < grad.size(0); ++i) add_backward(grad[i], input[i], want_weight, want_bias, weight_grad, bias_grad);
    return;
  }
  if (want_weight) weight_grad = gemm_cuda(g->t(), x->t(), weight_grad);
  if (want_bias) bias_grad = sum_rows_cuda(*g, bias_grad);
}

}  // namespace

Tensor linear_cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act) {
  if (!gemm_takes(input.scalar_type())) return linear_aten(input, weight, bias, pre, act);
  const Tensor x = apply_activation(input.dim() == 1 ? input.unsqueeze(0) : input, pre);
  const Tensor w = weight.dim() == 1 ? weight.unsqueeze(0) : weight;
  auto sizes = input.sizes().vec();
  sizes.pop_back();
  if (weight.dim() == 2) sizes.push_back(weight.size(0));
  const Tensor out = at::empty(sizes, input.options());
  auto as_product = x.sizes().vec();
  as_product.back() = w.size(0);
  forward_into(x, w, value_or_undefined(bias), act, out.view(as_product));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> linear_backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                        std::array<bool, 3> mask) {
  const Tensor g = grad.dim() == 1 ? grad.unsqueeze(0) : grad, x = input.dim() == 1 ? input.unsqueeze(0) : input;
  std::tuple<Tensor, Tensor, Tensor> grads;
  auto& [input_grad, weight_grad, bias_grad] = grads;
  if (mask[0]) {
    input_grad = at::empty(input.sizes(), input.options());
    forward_into(g, weight.t(), {}, {}, input_grad.view(x.sizes()));
  }
  if (mask[1] || mask[2]) add_backward(g, x, mask[1], mask[2], weight_grad, bias_grad);
  return grads;
}

}  // namespace blackwell_compat
