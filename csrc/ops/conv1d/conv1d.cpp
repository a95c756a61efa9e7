// compat_conv1d: schema, checks, meta, autograd, autocast, every registration. It computes in conv1d_cpu.cpp and
// conv1d_cuda.cpp.
#include "ops/conv1d/conv1d.h"

#include "common/gemm_cuda.h"
#include "common/layout.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using Str = c10::string_view;
using Ints = c10::SymIntArrayRef;
using Signature = Tensor(const Tensor&, const Tensor&, const OptTensor&, Ints, Ints, Ints, c10::SymInt, Str, double, Str, double,
                         const OptTensor&);
using PaddingSignature = Tensor(const Tensor&, const Tensor&, const OptTensor&, Ints, Str, Ints, c10::SymInt, Str, double, Str,
                                double, const OptTensor&);
using Grads = std::tuple<Tensor, Tensor, Tensor>;
using BackwardSignature = Grads(const Tensor&, const Tensor&, const Tensor&, Ints, Ints, Ints, c10::SymInt, std::array<bool, 3>);

std::string_view view(Str s) { return {s.data(), s.size()}; }

Tensor call(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints dilation,
            c10::SymInt groups, Str pre, double pre_slope, Str act, double slope, const OptTensor& residual) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::compat_conv1d", "").typed<Signature>();
  return op.call(input, weight, bias, stride, padding, dilation, std::move(groups), pre, pre_slope, act, slope, residual);
}

Grads call_backward(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints dilation,
                    c10::SymInt groups, std::array<bool, 3> mask) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::compat_conv1d_backward", "").typed<BackwardSignature>();
  return op.call(grad, input, weight, stride, padding, dilation, std::move(groups), mask);
}

c10::SymInt length_of(const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints dilation) {
  return (input.sym_size(-1) + padding[0] * 2 - dilation[0] * (weight.sym_size(2) - 1) - 1) / stride[0] + 1;
}

// One rule for every path, so that none of them broadcasts.
void check_residual(const OptTensor& residual, const Tensor& input, const Tensor& weight, Ints stride, Ints padding,
                    Ints dilation) {
  if (!residual) return;
  auto sizes = input.sym_sizes().vec();
  sizes[sizes.size() - 2] = weight.sym_size(0);
  sizes.back() = length_of(input, weight, stride, padding, dilation);
  BC_CHECK("compat_conv1d", residual->sym_sizes().equals(sizes), "residual must have the size of the output, ", Ints(sizes),
           ", got ", residual->sym_sizes());
  BC_CHECK_SAME_DTYPE("compat_conv1d", *residual, input);
  BC_CHECK_SAME_DEVICE("compat_conv1d", *residual, input);
}

Tensor composite(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints dilation,
                 c10::SymInt groups, Str pre, double pre_slope, Str act, double slope, const OptTensor& residual) {
  conv1d_check(input, weight, bias, stride, padding, dilation, groups);
  check_residual(residual, input, weight, stride, padding, dilation);
  const Tensor x = apply_activation(input, parse_activation(view(pre), pre_slope));
  const Tensor y = at::conv1d_symint(x, weight, bias, stride, padding, dilation, std::move(groups));
  const Tensor z = apply_activation(y, parse_activation(view(act), slope));
  return residual ? z + *residual : z;
}

Conv1dOptions options_of(Ints stride, Ints padding, Ints dilation, const c10::SymInt& groups, Str pre, double pre_slope, Str act,
                         double slope) {
  return {stride[0].expect_int(),
          padding[0].expect_int(),
          dilation[0].expect_int(),
          groups.expect_int(),
          parse_activation(view(pre), pre_slope),
          parse_activation(view(act), slope)};
}

Tensor cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints dilation,
           c10::SymInt groups, Str pre, double pre_slope, Str act, double slope, const OptTensor& residual) {
  conv1d_check(input, weight, bias, stride, padding, dilation, groups);
  check_residual(residual, input, weight, stride, padding, dilation);
  const auto options = options_of(stride, padding, dilation, groups, pre, pre_slope, act, slope);
  const Tensor y = conv1d_cpu(input, weight, bias, options, residual);
  if (y.defined()) return y;
  const Tensor z =
      composite(input, weight, bias, stride, padding, dilation, std::move(groups), pre, pre_slope, act, slope, residual);
  return is_channels_last_1d(input) ? z.transpose(1, 2).contiguous().transpose(1, 2) : z.contiguous();
}

Tensor cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints dilation,
            c10::SymInt groups, Str pre, double pre_slope, Str act, double slope, const OptTensor& residual) {
  if (!gemm_takes(input.scalar_type()) || !kernels_serve(input.device())) {
    return composite(input, weight, bias, stride, padding, dilation, std::move(groups), pre, pre_slope, act, slope, residual);
  }
  conv1d_check(input, weight, bias, stride, padding, dilation, groups);
  check_residual(residual, input, weight, stride, padding, dilation);
  return conv1d_cuda(input, weight, bias, options_of(stride, padding, dilation, groups, pre, pre_slope, act, slope), residual);
}

Tensor meta(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints dilation,
            c10::SymInt groups, Str pre, double, Str act, double, const OptTensor& residual) {
  conv1d_check(input, weight, bias, stride, padding, dilation, groups);
  check_residual(residual, input, weight, stride, padding, dilation);
  parse_activation(view(pre), 0);
  parse_activation(view(act), 0);
  const c10::SymInt c_out = weight.sym_size(0), l_out = length_of(input, weight, stride, padding, dilation);
  if (input.dim() == 2) return at::empty_symint({c_out, l_out}, input.options());
  return empty_1d(input.sym_size(0), c_out, l_out, is_channels_last_1d(input), input.options());
}

Grads backward_aten(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints dilation,
                    c10::SymInt groups, std::array<bool, 3> mask) {
  const c10::SymInt zero[] = {0};
  const bool batched = input.dim() == 3;
  auto grads = at::convolution_backward_symint(batched ? grad : grad.unsqueeze(0), batched ? input : input.unsqueeze(0), weight,
                                               at::OptionalSymIntArrayRef({weight.sym_size(0)}), stride, padding, dilation, false,
                                               Ints(zero, 1), std::move(groups), mask);
  if (mask[0] && !batched) std::get<0>(grads) = std::get<0>(grads).squeeze(0);
  return grads;
}

// Contiguous gradients, so that the meta kernel can say so too.
Grads backward(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints dilation,
               c10::SymInt groups, std::array<bool, 3> mask) {
  auto [dx, dw, db] = backward_aten(grad, input, weight, stride, padding, dilation, std::move(groups), mask);
  const auto dense = [](const Tensor& t) { return t.defined() ? t.contiguous() : t; };
  return {dense(dx), dense(dw), dense(db)};
}

Grads backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints stride, Ints padding, Ints dilation,
                    c10::SymInt groups, std::array<bool, 3> mask) {
  if (!gemm_takes(grad.scalar_type()) || !kernels_serve(grad.device())) {
    return backward(grad, input, weight, stride, padding, dilation, std::move(groups), mask);
  }
  return conv1d_backward_cuda(grad, input, weight, options_of(stride, padding, dilation, groups, "none", 0, "none", 0), mask);
}

const OwnKernel own{"blackwell_compat::compat_conv1d", c10::KernelFunction::makeFromUnboxedRuntimeFunction(&cuda)};
const OwnKernel own_backward{"blackwell_compat::compat_conv1d_backward",
                             c10::KernelFunction::makeFromUnboxedRuntimeFunction(&backward_cuda)};

Grads backward_meta(const Tensor& grad, const Tensor& input, const Tensor& weight, Ints, Ints, Ints, c10::SymInt,
                    std::array<bool, 3> mask) {
  const auto like = [](const Tensor& t) { return at::empty_symint(t.sym_sizes(), t.options()); };
  return {mask[0] ? like(input) : Tensor(), mask[1] ? like(weight) : Tensor(),
          mask[2] ? at::empty_symint({weight.sym_size(0)}, grad.options()) : Tensor()};
}

struct Conv1dFunction : torch::autograd::Function<Conv1dFunction> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& input, const Tensor& weight, const OptTensor& bias,
                        const c10::SymInt& stride, const c10::SymInt& padding, const c10::SymInt& dilation,
                        const c10::SymInt& groups) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({input, weight});
    ctx->saved_data["bias"] = bias.has_value();
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["dilation"] = dilation;
    ctx->saved_data["groups"] = groups;
    return call(input, weight, bias, Ints(&stride, 1), Ints(&padding, 1), Ints(&dilation, 1), groups, "none", 0, "none", 0, {});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const std::array<bool, 3> mask = {ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                                      ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)};
    const c10::SymInt stride = ctx->saved_data["stride"].toSymInt(), padding = ctx->saved_data["padding"].toSymInt(),
                      dilation = ctx->saved_data["dilation"].toSymInt(), groups = ctx->saved_data["groups"].toSymInt();
    const auto compute = at::GradMode::is_enabled() ? backward_aten : call_backward;
    auto [dx, dw, db] =
        compute(grads[0], saved[0], saved[1], Ints(&stride, 1), Ints(&padding, 1), Ints(&dilation, 1), groups, mask);
    return {dx, dw, db, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor autograd(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints dilation,
                c10::SymInt groups, Str pre, double pre_slope, Str act, double slope, const OptTensor& residual) {
  const Tensor &b = value_or_undefined(bias), &r = value_or_undefined(residual);
  if (wants_composite({input, weight, b, r})) {
    return composite(input, weight, bias, stride, padding, dilation, std::move(groups), pre, pre_slope, act, slope, residual);
  }
  if (!wants_grad({input, weight, b, r})) {
    at::AutoDispatchBelowADInplaceOrView below;
    return call(input, weight, bias, stride, padding, dilation, std::move(groups), pre, pre_slope, act, slope, residual);
  }
  conv1d_check(input, weight, bias, stride, padding, dilation, groups);
  check_residual(residual, input, weight, stride, padding, dilation);
  const Tensor x = apply_activation(input, parse_activation(view(pre), pre_slope));
  const Tensor y = Conv1dFunction::apply(x, weight, bias, stride[0], padding[0], dilation[0], groups);
  const Tensor z = apply_activation(y, parse_activation(view(act), slope));
  return residual ? z + *residual : z;
}

template <c10::DeviceType device>
Tensor autocast(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints dilation,
                c10::SymInt groups, Str pre, double pre_slope, Str act, double slope, const OptTensor& residual) {
  using Cast = Autocast<device>;
  c10::impl::ExcludeDispatchKeyGuard off(Cast::key);
  return call(Cast::low(input), Cast::low_weight(weight), Cast::low(bias), stride, padding, dilation, std::move(groups), pre,
              pre_slope, act, slope, Cast::low(residual));
}

// "same" pads on the right where the two sides cannot be equal, as torch does.
Tensor named_padding(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Str padding, Ints dilation,
                     c10::SymInt groups, Str pre, double pre_slope, Str act, double slope, const OptTensor& residual) {
  const auto name = view(padding);
  TORCH_CHECK(name == "same" || name == "valid", "compat_conv1d: padding must be 'same', 'valid' or a number, got '",
              std::string(name), "'");
  c10::SymInt left = 0, right = 0;
  if (name == "same") {
    BC_CHECK("compat_conv1d", stride.size() == 1 && stride[0] == 1,
             "padding='same' is not supported for strided convolutions, "
             "stride must be 1, got ",
             stride);
    BC_CHECK("compat_conv1d", weight.dim() == 3,
             "weight must be 3-D (C_out, C_in / groups, K): weight should have at least "
             "three dimensions, got ",
             weight.sym_sizes());
    BC_CHECK("compat_conv1d", dilation.size() == 1, "dilation must hold one value, got ", dilation);
    const c10::SymInt total = dilation[0] * (weight.sym_size(2) - 1);
    left = total / 2;
    right = total - left;
  }
  const c10::SymInt more = right - left, none = 0;
  const Tensor x = left == right ? input
                   : is_channels_last_1d(input)
                       ? at::constant_pad_nd_symint(input.transpose(1, 2), {none, none, none, more}).transpose(1, 2)
                       : at::constant_pad_nd_symint(input, {none, more});
  return call(x, weight, bias, stride, Ints(&left, 1), dilation, std::move(groups), pre, pre_slope, act, slope, residual);
}

}  // namespace

Tensor compat_conv1d(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints dilation,
                     c10::SymInt groups, Str pre_activation, double pre_slope, Str activation, double slope,
                     const OptTensor& residual) {
  return call(input, weight, bias, stride, padding, dilation, std::move(groups), pre_activation, pre_slope, activation, slope,
              residual);
}

// The one place that says which arguments are right; the wording of torch's own errors is kept inside ours.
void conv1d_check(const Tensor& input, const Tensor& weight, const OptTensor& bias, Ints stride, Ints padding, Ints dilation,
                  const c10::SymInt& groups) {
  BC_CHECK_NOT_COMPLEX("compat_conv1d", input);
  BC_CHECK_NOT_COMPLEX("compat_conv1d", weight);
  BC_CHECK("compat_conv1d", groups > 0, "groups must be >= 1 (non-positive groups is not supported), got ", groups);
  BC_CHECK("compat_conv1d", weight.dim() == 3,
           "weight must be 3-D (C_out, C_in / groups, K): weight should have at least three "
           "dimensions, got ",
           weight.sym_sizes());
  BC_CHECK("compat_conv1d", input.dim() == 2 || input.dim() == 3,
           "Expected 2D (unbatched) or 3D (batched) input to conv1d: "
           "input must be (C_in, L) or (N, C_in, L), got ",
           input.sym_sizes());
  BC_CHECK("compat_conv1d", stride.size() == 1 && padding.size() == 1 && dilation.size() == 1,
           "stride, padding and dilation must hold one value each, got ", stride, ", ", padding, " and ", dilation);
  BC_CHECK("compat_conv1d", stride[0] > 0, "stride must be >= 1 (non-positive stride is not supported), got ", stride[0]);
  BC_CHECK("compat_conv1d", padding[0] >= 0, "padding must be >= 0 (negative padding is not supported), got ", padding[0]);
  BC_CHECK("compat_conv1d", dilation[0] > 0, "dilation must be >= 1 (dilation should be greater than zero), got ", dilation[0]);
  BC_CHECK_SAME_DEVICE("compat_conv1d", weight, input);
  TORCH_CHECK(weight.scalar_type() == input.scalar_type(), "compat_conv1d: Input type (", input.scalar_type(),
              ") and weight type (", weight.scalar_type(), ") should be the same");
  if (bias) {
    BC_CHECK_SAME_DEVICE("compat_conv1d", *bias, input);
    TORCH_CHECK(bias->scalar_type() == input.scalar_type(), "compat_conv1d: Input type (", input.scalar_type(),
                ") and bias type (", bias->scalar_type(), ") should be the same");
  }
  const c10::SymInt c_out = weight.sym_size(0), c_in = input.sym_size(-2);
  BC_CHECK("compat_conv1d", c_out >= groups, "Given groups=", groups, ", expected weight to be at least ", groups,
           " at dimension 0, but got weight of size ", weight.sym_sizes());
  BC_CHECK("compat_conv1d", c_out % groups == 0, "Given groups=", groups, ", expected weight to be divisible by ", groups,
           " at dimension 0, but got weight of size ", weight.sym_sizes());
  BC_CHECK("compat_conv1d", weight.sym_size(1) * groups == c_in, "input must have ", weight.sym_size(1) * groups,
           " channels (weight.size(1) * groups), got ", c_in, "; input is ", input.sym_sizes(), ", weight is ",
           weight.sym_sizes(), ", groups ", groups);
  BC_CHECK("compat_conv1d", !bias || (bias->dim() == 1 && bias->sym_size(0) == c_out), "bias must be (", c_out,
           ",) (weight.size(0)), got ", bias ? bias->sym_sizes() : c10::SymIntArrayRef(), "; weight is ", weight.sym_sizes());
  const c10::SymInt padded = input.sym_size(-1) + padding[0] * 2, reach = dilation[0] * (weight.sym_size(2) - 1) + 1;
  BC_CHECK("compat_conv1d", padded >= reach && weight.sym_size(2) > 0,
           "Kernel size can't be greater than actual input size. "
           "Calculated padded input size per channel: (",
           padded, "). Kernel size: (", reach, "); input is ", input.sym_sizes(), ", weight is ", weight.sym_sizes());
}

TORCH_LIBRARY_FRAGMENT(blackwell_compat, m) {
  m.def(
      "compat_conv1d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[1] stride=1, SymInt[1] padding=0, SymInt[1] "
      "dilation=1, SymInt groups=1, *, str pre_activation=\"none\", float pre_slope=0.01, str activation=\"none\", float "
      "slope=0.01, Tensor? residual=None) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "compat_conv1d.padding(Tensor input, Tensor weight, Tensor? bias=None, SymInt[1] stride=1, str padding=\"valid\", "
      "SymInt[1] dilation=1, SymInt groups=1, *, str pre_activation=\"none\", float pre_slope=0.01, str activation=\"none\", "
      "float slope=0.01, Tensor? residual=None) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "compat_conv1d_backward(Tensor grad, Tensor input, Tensor weight, SymInt[1] stride, SymInt[1] padding, SymInt[1] dilation, "
      "SymInt groups, bool[3] mask) -> (Tensor, Tensor, Tensor)",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(blackwell_compat, CPU, m) { m.impl("compat_conv1d", cpu); }
TORCH_LIBRARY_IMPL(blackwell_compat, CUDA, m) {
  m.impl("compat_conv1d", cuda);
  m.impl("compat_conv1d_backward", backward_cuda);
}
TORCH_LIBRARY_IMPL(blackwell_compat, CompositeImplicitAutograd, m) { m.impl("compat_conv1d.padding", named_padding); }
TORCH_LIBRARY_IMPL(blackwell_compat, CompositeExplicitAutograd, m) {
  m.impl("compat_conv1d", composite);
  m.impl("compat_conv1d_backward", backward);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Meta, m) {
  m.impl("compat_conv1d", meta);
  m.impl("compat_conv1d_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Autograd, m) { m.impl("compat_conv1d", autograd); }
TORCH_LIBRARY_IMPL(blackwell_compat, FuncTorchBatchedDecomposition, m) {
  m.impl("compat_conv1d", composite);
  m.impl("compat_conv1d.padding", named_padding);
}
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCPU, m) { m.impl("compat_conv1d", autocast<c10::kCPU>); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCUDA, m) { m.impl("compat_conv1d", autocast<c10::kCUDA>); }

}  // namespace blackwell_compat
