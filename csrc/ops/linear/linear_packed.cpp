// compat_linear on a weight that exists only packed: the three ops of it, every registration.
#include "common/only_packed.h"
#include "ops/linear/linear.h"

namespace blackwell_compat {
namespace {

using Str = c10::string_view;
using Signature = Tensor(const Tensor&, const Tensor&, const OptTensor&, c10::SymInt, Str, double, Str, double);

std::string_view view(Str s) { return {s.data(), s.size()}; }

Tensor call(const Tensor& input, const Tensor& packed, const OptTensor& bias, c10::SymInt n, Str pre, double pre_slope, Str act,
            double slope) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::compat_linear_packed", "").typed<Signature>();
  return op.call(input, packed, bias, std::move(n), pre, pre_slope, act, slope);
}

c10::SymInt packed_size(const c10::SymInt& n, const c10::SymInt& k) { return linear_packed_size(concrete(n), concrete(k)); }

Tensor like_weight(const Tensor& input, const Tensor& packed, const c10::SymInt& n) {
  BC_CHECK("compat_linear_packed", input.dim() >= 1, "input must be (*, K), got a 0-D tensor");
  BC_CHECK_PACKED("compat_linear_packed", packed, packed_size(n, input.sym_size(-1)));
  return stand_in(packed, {n, input.sym_size(-1)});
}

Tensor cpu(const Tensor& input, const Tensor& packed, const OptTensor& bias, c10::SymInt n, Str pre, double pre_slope, Str act,
           double slope) {
  linear_check(input, like_weight(input, packed, n), bias);
  return linear_packed_cpu(input, packed, bias, n.expect_int(), parse_activation(view(pre), pre_slope),
                           parse_activation(view(act), slope));
}

Tensor meta(const Tensor& input, const Tensor& packed, const OptTensor& bias, c10::SymInt n, Str pre, double pre_slope, Str act,
            double slope) {
  return compat_linear(input, like_weight(input, packed, n), bias, pre, pre_slope, act, slope);
}

Tensor autograd(const Tensor& input, const Tensor& packed, const OptTensor& bias, c10::SymInt n, Str pre, double pre_slope,
                Str act, double slope) {
  return without_gradient(input, bias, [&] { return call(input, packed, bias, n, pre, pre_slope, act, slope); });
}

Tensor autocast(const Tensor& input, const Tensor& packed, const OptTensor& bias, c10::SymInt n, Str pre, double pre_slope,
                Str act, double slope) {
  return autocast_around(input, bias,
                         [&](const Tensor& x, const OptTensor& b) { return call(x, packed, b, n, pre, pre_slope, act, slope); });
}

Tensor pack(const Tensor& weight) {
  BC_CHECK_PACKABLE("compat_linear_pack", weight, 2);
  return linear_pack(weight);
}

Tensor pack_meta(const Tensor& weight) {
  BC_CHECK_PACKABLE("compat_linear_pack", weight, 2);
  return at::empty_symint({packed_size(weight.sym_size(0), weight.sym_size(1))}, weight.options());
}

Tensor unpack(const Tensor& packed, c10::SymInt n, c10::SymInt k) {
  BC_CHECK_PACKED("compat_linear_unpack", packed, packed_size(n, k));
  return linear_unpack(packed, n.expect_int(), k.expect_int());
}

Tensor unpack_meta(const Tensor& packed, c10::SymInt n, c10::SymInt k) {
  BC_CHECK_PACKED("compat_linear_unpack", packed, packed_size(n, k));
  return at::empty_symint({std::move(n), std::move(k)}, packed.options());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(blackwell_compat, m) {
  m.def(
      "compat_linear_packed(Tensor input, Tensor packed, Tensor? bias, SymInt out_features, *, str pre_activation=\"none\", "
      "float pre_slope=0.01, str activation=\"none\", float slope=0.01) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def("compat_linear_pack(Tensor weight) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.def("compat_linear_unpack(Tensor packed, SymInt out_features, SymInt in_features) -> Tensor", {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(blackwell_compat, CPU, m) {
  m.impl("compat_linear_packed", cpu);
  m.impl("compat_linear_pack", pack);
  m.impl("compat_linear_unpack", unpack);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Meta, m) {
  m.impl("compat_linear_packed", meta);
  m.impl("compat_linear_pack", pack_meta);
  m.impl("compat_linear_unpack", unpack_meta);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Autograd, m) { m.impl("compat_linear_packed", autograd); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCPU, m) { m.impl("compat_linear_packed", autocast); }

}  // namespace blackwell_compat
