// compat_conv_transpose1d: schema, checks, meta, autograd, autocast, every registration. It computes in
// conv_transpose1d_cpu.cpp and conv_transpose1d_cuda.cpp.
#include "ops/conv_transpose1d/conv_transpose1d.h"

#include "common/gemm_cuda.h"
#include "common/layout.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using Str = c10::string_view;
using Ints = c10::SymIntArrayRef;
using Signature = Tensor(const Tensor&, const Tensor&, const OptTensor&, Ints, Ints, Ints, c10::SymInt, Ints, Str, double, Str,
                         double);
using Grads = std::tuple<Tensor, Tensor, Tensor>;
using BackwardSignature = Grads(const Tensor&, const Tensor&, const Tensor&, Ints, Ints, Ints, c10::SymInt, Ints,
                                std::array<bool, 3>);

std::string_view view(Str s) { return {s.data(), s.size()}; }

Tensor call(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints output_padding,
            c10::SymInt groups, Ints dilation, Str pre, double pre_slope, Str act, double slope) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::compat_conv_transpose1d", "").typed<Signature>();
  return op.call(input, weight, bias, stride, padding, output_padding, std::move(groups), dilation, pre, pre_slope, act, slope);
}

Grads call_backward(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints output_padding,
                    c10::SymInt groups, Ints dilation, std::array<bool, 3> mask) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("blackwell_compat::compat_conv_transpose1d_backward", "")
                             .typed<BackwardSignature>();
  return op.call(grad, input, weight, stride, padding, output_padding, std::move(groups), dilation, mask);
}

c10::SymInt length_of(const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints output_padding, Ints dilation) {
  return (input.sym_size(-1) - 1) * stride[0] - padding[0] * 2 + dilation[0] * (weight.sym_size(2) - 1) + output_padding[0] + 1;
}

Tensor composite(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints output_padding,
                 c10::SymInt groups, Ints dilation, Str pre, double pre_slope, Str act, double slope) {
  conv_transpose1d_check(input, weight, bias, stride, padding, output_padding, groups, dilation);
  const Tensor x = apply_activation(input, parse_activation(view(pre), pre_slope));
  const Tensor y = at::conv_transpose1d_symint(x, weight, bias, stride, padding, output_padding, std::move(groups), dilation);
  return apply_activation(y, parse_activation(view(act), slope));
}

ConvTranspose1dOptions options_of(Ints stride, Ints padding, Ints output_padding, const c10::SymInt& groups, Ints dilation,
                                  Str pre, double pre_slope, Str act, double slope) {
  return {stride[0].expect_int(),
          padding[0].expect_int(),
          output_padding[0].expect_int(),
          groups.expect_int(),
          dilation[0].expect_int(),
          parse_activation(view(pre), pre_slope),
          parse_activation(view(act), slope)};
}

Tensor cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints output_padding,
           c10::SymInt groups, Ints dilation, Str pre, double pre_slope, Str act, double slope) {
  conv_transpose1d_check(input, weight, bias, stride, padding, output_padding, groups, dilation);
  const auto options = options_of(stride, padding, output_padding, groups, dilation, pre, pre_slope, act, slope);
  const Tensor y = conv_transpose1d_cpu(input, weight, bias, options);
  if (y.defined()) return y;
  // In half precision ATen may round after each tap
  const bool half = input.scalar_type() == at::kHalf || input.scalar_type() == at::kBFloat16;
  const auto type = half ? at::kFloat : input.scalar_type();
  const Tensor z = composite(input.to(type), weight.to(type), bias ? OptTensor(bias->to(type)) : bias, stride, padding,
                             output_padding, std::move(groups), dilation, pre, pre_slope, act, slope)
                       .to(input.scalar_type());
  return is_channels_last_1d(input) ? z.transpose(1, 2).contiguous().transpose(1, 2) : z.contiguous();
}

Tensor cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints output_padding,
            c10::SymInt groups, Ints dilation, Str pre, double pre_slope, Str act, double slope) {
  if (!gemm_takes(input.scalar_type()) || !kernels_serve(input.device())) {
    return composite(input, weight, bias, stride, padding, output_padding, std::move(groups), dilation, pre, pre_slope, act,
                     slope);
  }
  conv_transpose1d_check(input, weight, bias, stride, padding, output_padding, groups, dilation);
  return conv_transpose1d_cuda(input, weight, bias,
                               options_of(stride, padding, output_padding, groups, dilation, pre, pre_slope, act, slope));
}

Tensor meta(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints output_padding,
            c10::SymInt groups, Ints dilation, Str pre, double, Str act, double) {
  conv_transpose1d_check(input, weight, bias, stride, padding, output_padding, groups, dilation);
  parse_activation(view(pre), 0);
  parse_activation(view(act), 0);
  const c10::SymInt c_out = weight.sym_size(1) * groups,
                    l_out = length_of(input, weight, stride, padding, output_padding, dilation);
  if (input.dim() == 2) return at::empty_symint({c_out, l_out}, input.options());
  return empty_1d(input.sym_size(0), c_out, l_out, is_channels_last_1d(input), input.options());
}

Grads backward_aten(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints output_padding,
                    c10::SymInt groups, Ints dilation, std::array<bool, 3> mask) {
  const bool batched = input.dim() == 3;
  const c10::SymInt c_out = weight.sym_size(1) * groups;
  auto grads = at::convolution_backward_symint(batched ? grad : grad.unsqueeze(0), batched ? input : input.unsqueeze(0), weight,
                                               at::OptionalSymIntArrayRef({c_out}), stride, padding, dilation, true,
                                               output_padding, std::move(groups), mask);
  if (mask[0] && !batched) std::get<0>(grads) = std::get<0>(grads).squeeze(0);
  return grads;
}

// Contiguous gradients, so that the meta kernel can say so too.
Grads backward(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints output_padding,
               c10::SymInt groups, Ints dilation, std::array<bool, 3> mask) {
  auto [dx, dw, db] = backward_aten(grad, input, weight, stride, padding, output_padding, std::move(groups), dilation, mask);
  const auto dense = [](const Tensor& t) { return t.defined() ? t.contiguous() : t; };
  return {dense(dx), dense(dw), dense(db)};
}

Grads backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints output_padding,
                    c10::SymInt groups, Ints dilation, std::array<bool, 3> mask) {
  if (!gemm_takes(grad.scalar_type()) || !kernels_serve(grad.device())) {
    return backward(grad, input, weight, stride, padding, output_padding, std::move(groups), dilation, mask);
  }
  return conv_transpose1d_backward_cuda(
      grad, input, weight, options_of(stride, padding, output_padding, groups, dilation, "none", 0, "none", 0), mask);
}

const OwnKernel own{"blackwell_compat::compat_conv_transpose1d", c10::KernelFunction::makeFromUnboxedRuntimeFunction(&cuda)};
const OwnKernel own_backward{"blackwell_compat::compat_conv_transpose1d_backward",
                             c10::KernelFunction::makeFromUnboxedRuntimeFunction(&backward_cuda)};

Grads backward_meta(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints, Ints, Ints, c10::SymInt groups, Ints,
                    std::array<bool, 3> mask) {
  const auto like = [](const Tensor& t) { return at::empty_symint(t.sym_sizes(), t.options()); };
  return {mask[0] ? like(input) : Tensor(), mask[1] ? like(weight) : Tensor(),
          mask[2] ? at::empty_symint({weight.sym_size(1) * groups}, grad.options()) : Tensor()};
}

struct ConvTranspose1dFunction : torch::autograd::Function<ConvTranspose1dFunction> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& input, const Tensor& weight, const OptTensor& bias,
                        const c10::SymInt& stride, const c10::SymInt& padding, const c10::SymInt& output_padding,
                        const c10::SymInt& groups, const c10::SymInt& dilation) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({input, weight});
    ctx->saved_data["bias"] = bias.has_value();
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["output_padding"] = output_padding;
    ctx->saved_data["groups"] = groups;
    ctx->saved_data["dilation"] = dilation;
    return call(input, weight, bias, Ints(&stride, 1), Ints(&padding, 1), Ints(&output_padding, 1), groups, Ints(&dilation, 1),
                "none", 0, "none", 0);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const std::array<bool, 3> mask = {ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                                      ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)};
    const c10::SymInt stride = ctx->saved_data["stride"].toSymInt(), padding = ctx->saved_data["padding"].toSymInt(),
                      output_padding = ctx->saved_data["output_padding"].toSymInt(),
                      groups = ctx->saved_data["groups"].toSymInt(), dilation = ctx->saved_data["dilation"].toSymInt();
    const auto compute = at::GradMode::is_enabled() ? backward_aten : call_backward;
    auto [dx, dw, db] = compute(grads[0], saved[0], saved[1], Ints(&stride, 1), Ints(&padding, 1), Ints(&output_padding, 1),
                                groups, Ints(&dilation, 1), mask);
    return {dx, dw, db, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor autograd(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints output_padding,
                c10::SymInt groups, Ints dilation, Str pre, double pre_slope, Str act, double slope) {
  const Tensor& b = value_or_undefined(bias);
  if (wants_composite({input, weight, b})) {
    return composite(input, weight, bias, stride, padding, output_padding, std::move(groups), dilation, pre, pre_slope, act,
                     slope);
  }
  if (!wants_grad({input, weight, b})) {
    at::AutoDispatchBelowADInplaceOrView below;
    return call(input, weight, bias, stride, padding, output_padding, std::move(groups), dilation, pre, pre_slope, act, slope);
  }
  conv_transpose1d_check(input, weight, bias, stride, padding, output_padding, groups, dilation);
  const Tensor x = apply_activation(input, parse_activation(view(pre), pre_slope));
  const Tensor y = ConvTranspose1dFunction::apply(x, weight, bias, stride[0], padding[0], output_padding[0], groups, dilation[0]);
  return apply_activation(y, parse_activation(view(act), slope));
}

template <c10::DeviceType device>
Tensor autocast(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints output_padding,
                c10::SymInt groups, Ints dilation, Str pre, double pre_slope, Str act, double slope) {
  using Cast = Autocast<device>;
  c10::impl::ExcludeDispatchKeyGuard off(Cast::key);
  return call(Cast::low(input), Cast::low_weight(weight), Cast::low(bias), stride, padding, output_padding, std::move(groups),
              dilation, pre, pre_slope, act, slope);
}

}  // namespace

Tensor compat_conv_transpose1d(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding,
                               Ints output_padding, c10::SymInt groups, Ints dilation, Str pre_activation, double pre_slope,
                               Str activation, double slope) {
  return call(input, weight, bias, stride, padding, output_padding, std::move(groups), dilation, pre_activation, pre_slope,
              activation, slope);
}

// The one place that says which arguments are right; the wording of torch's own errors is kept inside ours.
void conv_transpose1d_check(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding,
                            Ints output_padding, const c10::SymInt& groups, Ints dilation) {
#define OP "compat_conv_transpose1d"
  BC_CHECK_NOT_COMPLEX(OP, input);
  BC_CHECK_NOT_COMPLEX(OP, weight);
  BC_CHECK(OP, groups > 0, "groups must be >= 1 (non-positive groups is not supported), got ", groups);
  BC_CHECK(OP, weight.dim() == 3,
           "weight must be 3-D (C_in, C_out / groups, K): weight should have at least three dimensions, got ",
           weight.sym_sizes());
  BC_CHECK(OP, input.dim() == 2 || input.dim() == 3,
           "Expected 2D (unbatched) or 3D (batched) input to conv_transpose1d: input "
           "must be (C_in, L) or (N, C_in, L), got ",
           input.sym_sizes());
  BC_CHECK(OP, stride.size() == 1 && padding.size() == 1 && output_padding.size() == 1 && dilation.size() == 1,
           "stride, padding, output_padding and dilation must hold one value each, got ", stride, ", ", padding, ", ",
           output_padding, " and ", dilation);
  BC_CHECK(OP, stride[0] > 0, "stride must be >= 1 (non-positive stride is not supported), got ", stride[0]);
  BC_CHECK(OP, padding[0] >= 0, "padding must be >= 0 (negative padding is not supported), got ", padding[0]);
  BC_CHECK(OP, output_padding[0] >= 0, "output_padding must be >= 0 (negative output_padding is not supported), got ",
           output_padding[0]);
  BC_CHECK(OP, dilation[0] > 0, "dilation must be >= 1 (dilation should be greater than zero), got ", dilation[0]);
  BC_CHECK(OP, output_padding[0] < stride[0] || output_padding[0] < dilation[0],
           "output padding must be smaller than either stride "
           "or dilation, got output_padding ",
           output_padding[0], ", stride ", stride[0], ", dilation ", dilation[0]);
  BC_CHECK_SAME_DEVICE(OP, weight, input);
  TORCH_CHECK(weight.scalar_type() == input.scalar_type(), OP ": Input type (", input.scalar_type(), ") and weight type (",
              weight.scalar_type(), ") should be the same");
  if (bias) {
    BC_CHECK_SAME_DEVICE(OP, *bias, input);
    TORCH_CHECK(bias->scalar_type() == input.scalar_type(), OP ": Input type (", input.scalar_type(), ") and bias type (",
                bias->scalar_type(), ") should be the same");
  }
  const c10::SymInt c_in = weight.sym_size(0), c_out = weight.sym_size(1) * groups;
  BC_CHECK(OP, c_in >= groups && c_in % groups == 0, "Given groups=", groups, ", expected weight to be at least ", groups,
           " and divisible by it at dimension 0, but got weight of size ", weight.sym_sizes());
  BC_CHECK(OP, input.sym_size(-2) == c_in, "input must have ", c_in, " channels (weight.size(0)), got ", input.sym_size(-2),
           "; input is ", input.sym_sizes(), ", weight is ", weight.sym_sizes());
  BC_CHECK(OP, !bias || (bias->dim() == 1 && bias->sym_size(0) == c_out), "bias must be (", c_out,
           ",) (weight.size(1) * groups), got ", bias ? bias->sym_sizes() : c10::SymIntArrayRef(), "; weight is ",
           weight.sym_sizes());
  BC_CHECK(OP, weight.sym_size(2) > 0 && length_of(input, weight, stride, padding, output_padding, dilation) > 0,
           "the output would have length ", length_of(input, weight, stride, padding, output_padding, dilation),
           " (Output size is too small); input is ", input.sym_sizes(), ", weight is ", weight.sym_sizes(), ", padding ",
           padding[0]);
#undef OP
}

TORCH_LIBRARY_FRAGMENT(blackwell_compat, m) {
  m.def(
      "compat_conv_transpose1d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[1] stride=1, SymInt[1] padding=0, "
      "SymInt[1] "
      "output_padding=0, SymInt groups=1, SymInt[1] dilation=1, *, str pre_activation=\"none\", float pre_slope=0.01, str "
      "activation=\"none\", float slope=0.01) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "compat_conv_transpose1d_backward(Tensor grad, Tensor input, Tensor weight, SymInt[1] stride, SymInt[1] padding, SymInt[1] "
      "output_padding, SymInt groups, SymInt[1] dilation, bool[3] mask) -> (Tensor, Tensor, Tensor)",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(blackwell_compat, CPU, m) { m.impl("compat_conv_transpose1d", cpu); }
TORCH_LIBRARY_IMPL(blackwell_compat, CUDA, m) {
  m.impl("compat_conv_transpose1d", cuda);
  m.impl("compat_conv_transpose1d_backward", backward_cuda);
}
TORCH_LIBRARY_IMPL(blackwell_compat, CompositeExplicitAutograd, m) {
  m.impl("compat_conv_transpose1d", composite);
  m.impl("compat_conv_transpose1d_backward", backward);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Meta, m) {
  m.impl("compat_conv_transpose1d", meta);
  m.impl("compat_conv_transpose1d_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Autograd, m) { m.impl("compat_conv_transpose1d", autograd); }
TORCH_LIBRARY_IMPL(blackwell_compat, FuncTorchBatchedDecomposition, m) { m.impl("compat_conv_transpose1d", composite); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCPU, m) { m.impl("compat_conv_transpose1d", autocast<c10::kCPU>); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCUDA, m) { m.impl("compat_conv_transpose1d", autocast<c10::kCUDA>); }

}  // namespace blackwell_compat
