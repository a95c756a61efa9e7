// compat_conv1d on a weight that exists only packed: the three ops of it, every registration.
#include "common/layout.h"
#include "common/only_packed.h"
#include "ops/conv1d/conv1d.h"

namespace blackwell_compat {
namespace {

using Str = c10::string_view;
using Ints = c10::SymIntArrayRef;
using Signature = Tensor(const Tensor&, const Tensor&, const OptTensor&, Ints, Ints, Ints, Ints, c10::SymInt, Str, double, Str,
                         double);

std::string_view view(Str s) { return {s.data(), s.size()}; }

Tensor call(const Tensor& input, const Tensor& packed, const OptTensor& bias, Ints size, Ints stride, Ints padding, Ints dilation,
            c10::SymInt groups, Str pre, double pre_slope, Str act, double slope) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::compat_conv1d_packed", "").typed<Signature>();
  return op.call(input, packed, bias, size, stride, padding, dilation, groups, pre, pre_slope, act, slope);
}

c10::SymInt packed_size(Ints size, const c10::SymInt& dilation, const c10::SymInt& groups) {
  return conv1d_packed_size(concrete(size), concrete(dilation), concrete(groups));
}

// For the checks: one wording, that of compat_conv1d.
Tensor like_weight(const Tensor& packed, Ints size, Ints stride, Ints padding, Ints dilation, const c10::SymInt& groups) {
  BC_CHECK("compat_conv1d_packed", size.size() == 3 && stride.size() == 1 && dilation.size() == 1,
           "size must hold three values, stride and dilation one, got ", size, ", ", stride, " and ", dilation);
  BC_CHECK("compat_conv1d_packed", groups > 0 && padding.size() == 1, "groups must be >= 1 and padding hold one value, got ",
           groups, " and ", padding);
  BC_CHECK_PACKED("compat_conv1d_packed", packed, packed_size(size, dilation[0], groups));
  return stand_in(packed, size);
}

Tensor cpu(const Tensor& input, const Tensor& packed, const OptTensor& bias, Ints size, Ints stride, Ints padding, Ints dilation,
           c10::SymInt groups, Str pre, double pre_slope, Str act, double slope) {
  conv1d_check(input, like_weight(packed, size, stride, padding, dilation, groups), bias, stride, padding, dilation, groups);
  const Conv1dOptions options{stride[0].expect_int(),
                              padding[0].expect_int(),
                              dilation[0].expect_int(),
                              groups.expect_int(),
                              parse_activation(view(pre), pre_slope),
                              parse_activation(view(act), slope)};
  const Tensor y = conv1d_packed_cpu(input, packed, concrete(size), bias, options);
  if (y.defined()) return y;
  const Tensor weight = conv1d_unpack(packed, concrete(size), options.dilation, options.groups);  // an empty batch
  return compat_conv1d(input, weight, bias, stride, padding, dilation, groups, pre, pre_slope, act, slope, {});
}

Tensor meta(const Tensor& input, const Tensor& packed, const OptTensor& bias, Ints size, Ints stride, Ints padding, Ints dilation,
            c10::SymInt groups, Str pre, double pre_slope, Str act, double slope) {
  return compat_conv1d(input, like_weight(packed, size, stride, padding, dilation, groups), bias, stride, padding, dilation,
                       groups, pre, pre_slope, act, slope, {});
}

Tensor autograd(const Tensor& input, const Tensor& packed, const OptTensor& bias, Ints size, Ints stride, Ints padding,
                Ints dilation, c10::SymInt groups, Str pre, double pre_slope, Str act, double slope) {
  return without_gradient(input, bias, [&] {
    return call(input, packed, bias, size, stride, padding, dilation, groups, pre, pre_slope, act, slope);
  });
}

Tensor autocast(const Tensor& input, const Tensor& packed, const OptTensor& bias, Ints size, Ints stride, Ints padding,
                Ints dilation, c10::SymInt groups, Str pre, double pre_slope, Str act, double slope) {
  return autocast_around(input, bias, [&](const Tensor& x, const OptTensor& b) {
    return call(x, packed, b, size, stride, padding, dilation, groups, pre, pre_slope, act, slope);
  });
}

Tensor pack(const Tensor& weight, c10::SymInt dilation, c10::SymInt groups) {
  BC_CHECK_PACKABLE("compat_conv1d_pack", weight, 3);
  return conv1d_pack(weight, dilation.expect_int(), groups.expect_int());
}

Tensor pack_meta(const Tensor& weight, c10::SymInt dilation, c10::SymInt groups) {
  BC_CHECK_PACKABLE("compat_conv1d_pack", weight, 3);
  return at::empty_symint({packed_size(weight.sym_sizes(), dilation, groups)}, weight.options());
}

Tensor unpack(const Tensor& packed, Ints size, c10::SymInt dilation, c10::SymInt groups) {
  BC_CHECK_PACKED("compat_conv1d_unpack", packed, packed_size(size, dilation, groups));
  return conv1d_unpack(packed, concrete(size), dilation.expect_int(), groups.expect_int());
}

Tensor unpack_meta(const Tensor& packed, Ints size, c10::SymInt dilation, c10::SymInt groups) {
  BC_CHECK_PACKED("compat_conv1d_unpack", packed, packed_size(size, dilation, groups));
  return at::empty_symint(size, packed.options());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(blackwell_compat, m) {
  m.def(
      "compat_conv1d_packed(Tensor input, Tensor packed, Tensor? bias, SymInt[] size, SymInt[1] stride=1, SymInt[1] padding=0, "
      "SymInt[1] "
      "dilation=1, SymInt groups=1, *, str "
      "pre_activation=\"none\", float pre_slope=0.01, str activation=\"none\", float slope=0.01) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def("compat_conv1d_pack(Tensor weight, SymInt dilation, SymInt groups) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.def("compat_conv1d_unpack(Tensor packed, SymInt[] size, SymInt dilation, SymInt groups) -> Tensor",
        {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(blackwell_compat, CPU, m) {
  m.impl("compat_conv1d_packed", cpu);
  m.impl("compat_conv1d_pack", pack);
  m.impl("compat_conv1d_unpack", unpack);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Meta, m) {
  m.impl("compat_conv1d_packed", meta);
  m.impl("compat_conv1d_pack", pack_meta);
  m.impl("compat_conv1d_unpack", unpack_meta);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Autograd, m) { m.impl("compat_conv1d_packed", autograd); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCPU, m) { m.impl("compat_conv1d_packed", autocast); }

}  // namespace blackwell_compat
