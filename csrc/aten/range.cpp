// arange, linspace, eye, tril and triu.
#include "kernels/range.cuh"

#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>
#include <c10/core/DeviceGuard.h>

#include <cmath>

#include "aten/cat.h"
#include "aten/nest.h"
#include "aten/variants.h"
#include "common/ceil_div.h"
#include "common/own_kernels.h"
#include "common/scalar_kind.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

// Whether out= may become one of `size` elements with no warning.
bool grows_to(const Tensor& out, int64_t size) {
  return size >= 0 && (out.numel() == 0 || out.numel() == size) && out.layout() == c10::kStrided &&
         at::has_internal_overlap(out) != at::MemOverlap::Yes;
}

bool launch(RangeParams& p, const Tensor& out, int64_t size) {
  if (out.numel() != size) out.resize_({size});
  if (size == 0) return true;
  const c10::DeviceGuard guard(out.device());
  const Tensor whole = out.is_contiguous() ? out : at::empty(out.sizes(), out.options());
  p.to = whole.mutable_data_ptr(), p.size = size;
  runtime::launch("compat_range", out.device(), {ceil_div(size, kRangeThreads), kRangeThreads, 0}, &p);
  return whole.is_same(out) || copy_on_card(out, whole);
}

bool holds(at::ScalarType dtype, double whole) {
  const int bits = 8 * static_cast<int>(c10::elementSize(dtype)) - (dtype == at::kByte ? 0 : 1);
  return whole <= std::ldexp(1, bits) - 1 && whole >= (dtype == at::kByte ? 0 : -std::ldexp(1, bits));
}

bool is_real(const at::Scalar& value) { return !value.isComplex() && std::isfinite(value.toDouble()); }

bool is_whole(const at::Scalar& value) { return value.isIntegral(true) || std::trunc(value.toDouble()) == value.toDouble(); }

bool arange(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 4);
  const at::Scalar start = arguments[0].toScalar(), end = arguments[1].toScalar(), step = arguments[2].toScalar();
  const Tensor out = arguments[3].toTensor();
  const auto kind = number_kind(out.scalar_type());
  if (!kind || !is_real(start) || !is_real(end) || !is_real(step)) return false;
  RangeParams p{};
  p.kind = *kind;
  const bool whole = at::isIntegralType(out.scalar_type(), false);
  if (whole) {
    if (!is_whole(start) || !is_whole(end) || !is_whole(step)) return false;
    p.whole_start = start.toLong(), p.whole_step = step.toLong();
    if (!holds(out.scalar_type(), start.toDouble())) return false;
  }
  p.start = start.toDouble(), p.step = step.toDouble();
  const double last = end.toDouble();
  if (p.step == 0 || (p.step > 0 ? p.start > last : p.start < last)) return false;
  const double size = std::ceil((last - p.start) / p.step);
  constexpr double kExact = 1LL << 52;
  if (size >= kExact || std::abs(p.start) >= kExact || std::abs(last) >= kExact || std::abs(p.step) >= kExact) return false;
  p.half = static_cast<int64_t>(size);
  if (!grows_to(out, p.half) || !launch(p, out, p.half)) return false;
  give(op, stack, {out});
  return true;
}

bool linspace(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 4);
  const at::Scalar start = arguments[0].toScalar(), end = arguments[1].toScalar();
  const int64_t steps = arguments[2].toInt();
  const Tensor out = arguments[3].toTensor();
  const auto kind = number_kind(out.scalar_type());
  if (!kind || !is_real(start) || !is_real(end) || !grows_to(out, steps)) return false;
  RangeParams p{};
  p.kind = *kind, p.real = true, p.half = steps == 1 ? 1 : steps / 2;
  p.start = start.toDouble(), p.end = end.toDouble();
  if (at::isIntegralType(out.scalar_type(), false)) {
    p.start = std::trunc(p.start), p.end = std::trunc(p.end);
    if (!holds(out.scalar_type(), p.start) || !holds(out.scalar_type(), p.end)) return false;
  }
  p.step = steps > 1 ? (p.end - p.start) / static_cast<double>(steps - 1) : 0;
  if (!launch(p, out, steps)) return false;
  give(op, stack, {out});
  return true;
}

// `from` of no elements: the bytes of `p`.
bool launch(BandParams& p, const Tensor& from, const Tensor& out) {
  if (out.numel() == 0) return true;
  Nest<2> nest;
  const int64_t dims = out.dim(), element = out.element_size();
  const auto stride = [&](int64_t d) { return from.defined() ? from.stride(d) : 0; };
  for (int64_t d = 0; d < dims - 2; ++d) nest.push_back({out.size(d), {out.stride(d), stride(d)}});
  simplify(nest);
  for (int64_t d = dims - 2; d < dims; ++d) nest.push_back({out.size(d), {out.stride(d), stride(d)}});
  if (!lay_out(nest, p.sizes, p.to_strides, p.from_strides) || out.numel() > std::numeric_limits<int>::max()) return false;
  p.from = from.defined() ? from.const_data_ptr() : nullptr, p.to = out.mutable_data_ptr();
  p.elements = static_cast<unsigned>(out.numel());
  const c10::DeviceGuard guard(out.device());
  const std::string name = "compat_range_band_b" + std::to_string(element);
  runtime::launch(name, out.device(), {ceil_div(out.numel(), kRangeThreads), kRangeThreads, 0}, &p);
  return true;
}

bool eye(const c10::OperatorHandle& op, Stack* stack) {
  const size_t count = op.schema().arguments().size();
  const auto arguments = torch::jit::last(*stack, count);
  const int64_t rows = arguments[0].toInt(), columns = arguments[count - 2].toInt();
  const Tensor out = arguments[count - 1].toTensor();
  if (rows < 0 || columns < 0 || out.layout() != c10::kStrided || at::has_internal_overlap(out) == at::MemOverlap::Yes)
    return false;
  out.resize_({rows, columns});
  const Tensor one = at::scalar_tensor(1, at::device(at::kCPU).dtype(out.scalar_type()));
  BandParams p{};
  std::memcpy(p.value, one.const_data_ptr(), one.element_size());
  if (!launch(p, {}, out)) return false;
  give(op, stack, {out});
  return true;
}

template <bool upper>
bool triangle(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const int64_t diagonal = arguments[1].toInt();
  if (self.dim() < 2 || self.layout() != c10::kStrided) return false;
  const bool in_place = variant_of(op) == Variant::kInPlace;
  const Tensor out = in_place ? changed(op, *stack) : destination(op, *stack, self.sizes(), self.options());
  if (!out.defined()) return false;
  BandParams p{};
  constexpr long long kAll = int64_t{1} << 62;
  p.low = upper ? diagonal : -kAll, p.high = upper ? kAll : diagonal;
  if (!launch(p, self, out)) return false;
  give(op, stack, {out});
  return true;
}

const OwnKernel kernels[] = {
    {"aten::arange.start_out", arange}, {"aten::linspace.out", linspace}, {"aten::eye.out", eye},
    {"aten::eye.m_out", eye},           {"aten::tril", triangle<false>},  {"aten::tril.out", triangle<false>},
    {"aten::tril_", triangle<false>},   {"aten::triu", triangle<true>},   {"aten::triu.out", triangle<true>},
    {"aten::triu_", triangle<true>}};

}  // namespace
}  // namespace blackwell_compat
