// compat_linear: schema, checks, meta, autograd, autocast, every registration. It computes in linear_cpu.cpp
// and linear_cuda.cpp.
#include "ops/linear/linear.h"

#include "common/gemm_cuda.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using Str = c10::string_view;
using Signature = Tensor(const Tensor&, const Tensor&, const OptTensor&, Str, double, Str, double);
using Grads = std::tuple<Tensor, Tensor, Tensor>;
using BackwardSignature = Grads(const Tensor&, const Tensor&, const Tensor&, std::array<bool, 3>);

std::string_view view(Str s) { return {s.data(), s.size()}; }

Tensor call(const Tensor& input, const Tensor& weight, const OptTensor& bias, Str pre, double pre_slope, Str act, double slope) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::compat_linear", "").typed<Signature>();
  return op.call(input, weight, bias, pre, pre_slope, act, slope);
}

Grads call_backward(const Tensor& grad, const Tensor& input, const Tensor& weight, std::array<bool, 3> mask) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::compat_linear_backward", "").typed<BackwardSignature>();
  return op.call(grad, input, weight, mask);
}

Tensor cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias, Str pre, double pre_slope, Str act, double slope) {
  linear_check(input, weight, bias);
  return linear_cpu(input, weight, bias, parse_activation(view(pre), pre_slope), parse_activation(view(act), slope));
}

Tensor composite(const Tensor& input, const Tensor& weight, const OptTensor& bias, Str pre, double pre_slope, Str act,
                 double slope) {
  linear_check(input, weight, bias);
  return linear_aten(input, weight, bias, parse_activation(view(pre), pre_slope), parse_activation(view(act), slope));
}

Tensor cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias, Str pre, double pre_slope, Str act, double slope) {
  if (!kernels_serve(input.device())) return composite(input, weight, bias, pre, pre_slope, act, slope);
  linear_check(input, weight, bias);
  return linear_cuda(input, weight, bias, parse_activation(view(pre), pre_slope), parse_activation(view(act), slope));
}

Tensor meta(const Tensor& input, const Tensor& weight, const OptTensor& bias, Str pre, double, Str act, double) {
  linear_check(input, weight, bias);
  parse_activation(view(pre), 0);
  parse_activation(view(act), 0);
  auto sizes = input.sym_sizes().vec();
  sizes.pop_back();
  if (weight.dim() == 2) sizes.push_back(weight.sym_size(0));
  return at::empty_symint(sizes, input.options());
}

// dx = g W, dW = g^T x, db = the sum of g over rows
Grads backward_aten(const Tensor& grad, const Tensor& input, const Tensor& weight, std::array<bool, 3> mask) {
  const auto n = weight.sym_size(0), k = weight.sym_size(1);
  c10::SymInt m = 1;  // the number of rows; -1 would say nothing where n or k is 0
  for (const c10::SymInt& size : input.sym_sizes().slice(0, input.dim() - 1)) m = m * size;
  const Tensor rows = grad.reshape_symint({m, n});
  Grads grads;
  if (mask[0]) std::get<0>(grads) = at::matmul(grad, weight);
  if (mask[1]) std::get<1>(grads) = at::mm(rows.t(), input.reshape_symint({m, k}));
  if (mask[2]) std::get<2>(grads) = rows.sum(0);
  return grads;
}

Grads backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight, std::array<bool, 3> mask) {
  const bool ours = gemm_takes(grad.scalar_type()) && kernels_serve(grad.device());
  return ours ? linear_backward_cuda(grad, input, weight, mask) : backward_aten(grad, input, weight, mask);
}

const OwnKernel own{"blackwell_compat::compat_linear", c10::KernelFunction::makeFromUnboxedRuntimeFunction(&cuda)};
const OwnKernel own_backward{"blackwell_compat::compat_linear_backward",
                             c10::KernelFunction::makeFromUnboxedRuntimeFunction(&backward_cuda)};

Grads backward_meta(const Tensor& grad, const Tensor& input, const Tensor& weight, std::array<bool, 3> mask) {
  const auto like = [&](const Tensor& t) { return at::empty_symint(t.sym_sizes(), t.options()); };
  Grads grads;
  if (mask[0]) std::get<0>(grads) = like(input);
  if (mask[1]) std::get<1>(grads) = like(weight);
  if (mask[2]) std::get<2>(grads) = at::empty_symint({weight.sym_size(0)}, grad.options());
  return grads;
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& input, const Tensor& weight, const OptTensor& bias) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({input, weight});
    ctx->saved_data["bias"] = bias.has_value();
    return call(input, weight, bias, "none", 0, "none", 0);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const std::array<bool, 3> mask = {ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                                      ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)};
    const bool twice = at::GradMode::is_enabled();
    auto [dx, dw, db] =
        twice ? backward_aten(grads[0], saved[0], saved[1], mask) : call_backward(grads[0], saved[0], saved[1], mask);
    return {dx, dw, db};
  }
};

Tensor autograd(const Tensor& input, const Tensor& weight, const OptTensor& bias, Str pre, double pre_slope, Str act,
                double slope) {
  const Tensor& b = value_or_undefined(bias);
  if (wants_composite({input, weight, b})) return composite(input, weight, bias, pre, pre_slope, act, slope);
  if (!wants_grad({input, weight, b})) {
    at::AutoDispatchBelowADInplaceOrView below;
    return call(input, weight, bias, pre, pre_slope, act, slope);
  }
  linear_check(input, weight, bias);
  if (weight.dim() == 1) return autograd(input, weight.unsqueeze(0), bias, pre, pre_slope, act, slope).squeeze(-1);
  const Tensor x = apply_activation(input, parse_activation(view(pre), pre_slope));
  const Tensor y = LinearFunction::apply(x, weight, bias);
  return apply_activation(y, parse_activation(view(act), slope));
}

template <c10::DeviceType device>
Tensor autocast(const Tensor& input, const Tensor& weight, const OptTensor& bias, Str pre, double pre_slope, Str act,
                double slope) {
  using Cast = Autocast<device>;
  c10::impl::ExcludeDispatchKeyGuard off(Cast::key);
  return call(Cast::low(input), Cast::low_weight(weight), Cast::low(bias), pre, pre_slope, act, slope);
}

}  // namespace

Tensor compat_linear(const Tensor& input, const Tensor& weight, const OptTensor& bias, Str pre_activation, double pre_slope,
                     Str activation, double slope) {
  return call(input, weight, bias, pre_activation, pre_slope, activation, slope);
}

void linear_check(const Tensor& input, const Tensor& weight, const OptTensor& bias) {
  BC_CHECK_NOT_COMPLEX("compat_linear", input);
  BC_CHECK_NOT_COMPLEX("compat_linear", weight);
  BC_CHECK("compat_linear", input.dim() >= 1, "input must be (*, K), got a 0-D tensor");
  BC_CHECK("compat_linear", weight.dim() == 1 || weight.dim() == 2, "weight must be 2-D (N, K) or 1-D (K,), got ",
           weight.sym_sizes());
  BC_CHECK("compat_linear", weight.sym_size(-1) == input.sym_size(-1), "weight.size(-1) must be ", input.sym_size(-1),
           " (input.size(-1)), got ", weight.sym_size(-1), "; mat1 and mat2 shapes cannot be multiplied: input is ",
           input.sym_sizes(), ", weight is ", weight.sym_sizes());
  BC_CHECK_SAME_DTYPE("compat_linear", weight, input);
  BC_CHECK_SAME_DEVICE("compat_linear", weight, input);
  if (!bias) return;
  BC_CHECK("compat_linear", bias->dim() <= 1, "bias must be 1-D (N,), got ", bias->sym_sizes());
  const c10::SymInt n = weight.dim() == 2 ? weight.sym_size(0) : c10::SymInt(1);
  BC_CHECK("compat_linear", bias->dim() == 0 || bias->sym_size(0) == n || bias->sym_size(0) == 1, "bias.size(0) must be ", n,
           " (weight.size(0)), got ", bias->sym_size(0), "; weight is ", weight.sym_sizes());
  BC_CHECK_SAME_DTYPE("compat_linear", *bias, input);
  BC_CHECK_SAME_DEVICE("compat_linear", *bias, input);
}

Tensor linear_aten(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act) {
  return apply_activation(at::linear(apply_activation(input, pre), weight, bias), act);
}

TORCH_LIBRARY_FRAGMENT(blackwell_compat, m) {
  m.def(
      "compat_linear(Tensor input, Tensor weight, Tensor? bias=None, *, str pre_activation=\"none\", float "
      "pre_slope=0.01, str activation=\"none\", float slope=0.01) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def("compat_linear_backward(Tensor grad, Tensor input, Tensor weight, bool[3] mask) -> (Tensor, Tensor, Tensor)",
        {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(blackwell_compat, CPU, m) { m.impl("compat_linear", cpu); }
TORCH_LIBRARY_IMPL(blackwell_compat, CUDA, m) {
  m.impl("compat_linear", cuda);
  m.impl("compat_linear_backward", backward_cuda);
}
TORCH_LIBRARY_IMPL(blackwell_compat, CompositeExplicitAutograd, m) {
  m.impl("compat_linear", composite);
  m.impl("compat_linear_backward", backward_aten);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Meta, m) {
  m.impl("compat_linear", meta);
  m.impl("compat_linear_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Autograd, m) { m.impl("compat_linear", autograd); }
TORCH_LIBRARY_IMPL(blackwell_compat, FuncTorchBatchedDecomposition, m) { m.impl("compat_linear", composite); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCPU, m) { m.impl("compat_linear", autocast<c10::kCPU>); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCUDA, m) { m.impl("compat_linear", autocast<c10::kCUDA>); }

}  // namespace blackwell_compat
