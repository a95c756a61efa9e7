// Where results go.
#include "aten/variants.h"

#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/native/Resize.h>

#include "aten/cat.h"
#include "fallback/values.h"

namespace blackwell_compat {
namespace {

using at::Tensor;

bool overlap(const Tensor& a, const Tensor& b) {
  return a.storage().is_alias_of(b.storage()) && at::get_overlap_status(a, b) != at::MemOverlapStatus::No;
}

bool stands_alone(const Tensor& written, c10::ArrayRef<c10::IValue> others) {
  bool alone = written.layout() == c10::kStrided && at::has_internal_overlap(written) != at::MemOverlap::Yes;
  for (const c10::IValue& value : others) {
    fallback::each_tensor(value, [&](const Tensor& tensor) {
      if (!tensor.defined()) return;
      alone = alone && tensor.layout() == c10::kStrided && !overlap(written, tensor);
    });
  }
  return alone;
}

}  // namespace

Tensor destination(const c10::OperatorHandle& op, const torch::jit::Stack& stack, at::IntArrayRef sizes,
                   const at::TensorOptions& options) {
  if (variant_of(op) == Variant::kFunctional) return at::empty(sizes, options);
  const auto arguments = torch::jit::last(stack, op.schema().arguments().size());
  const Tensor out = arguments.back().toTensor();
  if (out.scalar_type() != options.dtype() || !stands_alone(out, arguments.slice(0, arguments.size() - 1))) return {};
  at::native::resize_output(out, sizes);
  return out;
}

Tensor changed(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto arguments = torch::jit::last(stack, op.schema().arguments().size());
  const Tensor self = arguments.front().toTensor();
  switch (variant_of(op)) {
    case Variant::kInPlace:
      return stands_alone(self, arguments.slice(1)) ? self : Tensor();
    default: {
      const Tensor out = destination(op, stack, self.sizes(), self.options());
      return out.defined() && copy_on_card(out, self) ? out : Tensor();
    }
  }
}

}  // namespace blackwell_compat
