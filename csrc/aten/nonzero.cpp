// nonzero, and what is made of it: masked_select, masked_scatter.
#include "kernels/nonzero.cuh"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "aten/cat.h"
#include "aten/variants.h"
#include "common/ceil_div.h"
#include "common/own_kernels.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

// The bits that -0.0 has not
uint64_t mask_of(at::ScalarType dtype) {
  const auto part = at::isComplexType(dtype) ? c10::toRealValueType(dtype) : dtype;
  const auto bits = static_cast<int>(8 * c10::elementSize(part));
  uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  if (at::isFloatingType(part)) mask >>= 1;
  for (int width = bits; width < 64 && part != dtype; width *= 2) mask |= mask << width;
  return mask;
}

bool nonzero(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor given = arguments[0].toTensor();
  if (given.layout() != c10::kStrided || given.dim() > kNonzeroDims) return false;
  const c10::DeviceGuard guard(given.device());
  const Tensor self = packed(given);
  const auto options = self.options().dtype(at::kLong);
  NonzeroParams p{};
  p.from = self.const_data_ptr(), p.size = self.numel(), p.tiles = ceil_div(self.numel(), kNonzeroTile);
  p.mask = mask_of(self.scalar_type()), p.dims = static_cast<int>(self.dim());
  std::copy(self.sizes().begin(), self.sizes().end(), p.sizes);
  const std::string bytes = "_b" + std::to_string(self.element_size());
  const Tensor counts = at::empty({p.tiles + 1}, options);
  p.counts = static_cast<long long*>(counts.mutable_data_ptr());
  if (p.tiles > 0) {
    runtime::launch("compat_nonzero_count" + bytes, self.device(), {p.tiles, kNonzeroThreads, kNonzeroSharedBytes}, &p);
    runtime::launch("compat_nonzero_sum", self.device(), {1, kNonzeroThreads, kNonzeroSumSharedBytes}, &p);
    p.total = counts[p.tiles].item<int64_t>();
  }
  const Tensor found = at::empty({p.dims, p.total}, options);
  if (found.numel() > 0) {
    p.to = static_cast<long long*>(found.mutable_data_ptr());
    runtime::launch("compat_nonzero_write" + bytes, self.device(), {p.tiles, kNonzeroThreads, kNonzeroSharedBytes}, &p);
  }
  Tensor out = found.t();
  if (variant_of(op) == Variant::kOut) {
    out = destination(op, *stack, out.sizes(), options);
    if (!out.defined() || !copy_on_card(out, found.t())) return false;
  }
  give(op, stack, {out});
  return true;
}

// In the order of a contiguous tensor of the mask's size
Tensor places_of(const Tensor& mask) { return packed(mask).view({-1}).nonzero().select(1, 0); }

bool masked_select(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor(), mask = arguments[1].toTensor();
  if (mask.scalar_type() != at::kBool || self.layout() != c10::kStrided || mask.layout() != c10::kStrided) return false;
  const auto sizes = at::infer_size(mask.sizes(), self.sizes());
  const Tensor places = places_of(mask.to(self.device()).expand(sizes));
  Tensor out = destination(op, *stack, places.sizes(), self.options());
  if (!out.defined()) return false;
  if (places.numel() > 0) at::index_select_out(out, packed(self.to(places.device()).expand(sizes)).view({-1}), 0, places);
  give(op, stack, {out});
  return true;
}

bool masked_scatter(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  const Tensor self = arguments[0].toTensor(), mask = arguments[1].toTensor(), source = arguments[2].toTensor();
  if (mask.scalar_type() != at::kBool || source.scalar_type() != self.scalar_type() || !self.is_contiguous() ||
      !at::is_expandable_to(mask.sizes(), self.sizes()) || !changed(op, *stack).defined()) {
    return false;
  }
  const Tensor places = places_of(mask.to(self.device()).expand(self.sizes()));
  if (source.numel() < places.numel()) return false;
  if (places.numel() > 0) self.put_(places, packed(source).view({-1}).narrow(0, 0, places.numel()));
  give(op, stack, {self});
  return true;
}

const OwnKernel kernels[] = {{"aten::nonzero", nonzero},
                             {"aten::nonzero.out", nonzero},
                             {"aten::masked_select", masked_select},
                             {"aten::masked_select.out", masked_select},
                             {"aten::masked_scatter_", masked_scatter}};

}  // namespace
}  // namespace blackwell_compat
