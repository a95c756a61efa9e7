// The detour by way of float32, which keeps what is written and what comes back in half precision.
#include "fallback/half.h"

#include <ATen/ATen.h>

#include <utility>

#include "common/cpu.h"
#include "fallback/values.h"
#include "fallback/widened.h"

namespace blackwell_compat::fallback {
namespace {

using at::Tensor;
using c10::IValue;

bool is_half(at::ScalarType dtype) { return dtype == at::kHalf || dtype == at::kBFloat16 || dtype == at::kComplexHalf; }
bool is_half(const Tensor& tensor) { return tensor.defined() && is_half(tensor.scalar_type()); }

at::ScalarType wide(at::ScalarType dtype) { return dtype == at::kComplexHalf ? at::kComplexFloat : at::kFloat; }

// The dtype of the first tensor in half precision, or Undefined.
at::ScalarType half_dtype(const IValue* begin, const IValue* end) {
  at::ScalarType found = at::ScalarType::Undefined;
  for (const IValue* value = begin; value != end; ++value) {
    each_tensor(*value, [&](const Tensor& tensor) {
      if (found == at::ScalarType::Undefined && is_half(tensor)) found = tensor.scalar_type();
    });
  }
  return found;
}

// One call in float32.
class Detour {
 public:
  Detour(const OpFacts& facts, at::ScalarType half) : facts_(facts), half_(half) {}

  void run(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
    const size_t n = facts_.arguments.size(), base = stack->size() - n;
    for (size_t i = 0; i < n; ++i) widen((*stack)[base + i], i);
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
    for (const auto& [original, computed] : written_) {
      if (original.sizes() != computed.sizes()) original.resize_(computed.sizes());
      original.copy_(computed);
    }
    const size_t returned = op.schema().returns().size();
    for (size_t i = stack->size() - returned; i < stack->size(); ++i) {
      replace_tensors((*stack)[i], [&](const Tensor& result) { return narrow(result); });
    }
  }

 private:
  Tensor widen(const Tensor& tensor, bool written) {
    if (!is_half(tensor)) return tensor;
    if (!written) return widened(tensor);
    Tensor computed = tensor.to(wide(tensor.scalar_type()));
    written_.emplace_back(tensor, computed);
    return computed;
  }

  void widen(IValue& value, size_t place) {
    const bool written = facts_.arguments[place].written;
    replace_tensors(value, [&](const Tensor& tensor) { return widen(tensor, written); });
    if (static_cast<int>(place) == facts_.dtype_argument && value.isInt()) {
      const auto dtype = static_cast<at::ScalarType>(value.toInt());
      asked_for_full_ = !is_half(dtype);
      if (!asked_for_full_) value = static_cast<int64_t>(wide(dtype));
    }
  }

  Tensor narrow(const Tensor& result) const {
    if (!result.defined()) return result;
    for (const auto& [original, computed] : written_) {
      if (computed.unsafeGetTensorImpl() == result.unsafeGetTensorImpl()) return original;
    }
    if (asked_for_full_) return result;
    if (result.scalar_type() == at::kFloat) return result.to(half_ == at::kComplexHalf ? at::kHalf : half_);
    if (result.scalar_type() == at::kComplexFloat) return result.to(at::kComplexHalf);
    return result;
  }

  const OpFacts& facts_;
  const at::ScalarType half_;
  std::vector<std::pair<Tensor, Tensor>> written_;  // in half precision, and in float32
  bool asked_for_full_ = false;
};

}  // namespace

void call_on_cpu(const c10::OperatorHandle& op, const OpFacts& facts, std::atomic<bool>& lacks_half, torch::jit::Stack* stack) {
  constexpr c10::DispatchKeySet cpu(c10::DispatchKey::CPU);
  const size_t n = facts.arguments.size(), base = stack->size() - n;
  const at::ScalarType half = half_dtype(stack->data() + base, stack->data() + stack->size());
  if (half == at::ScalarType::Undefined) return op.redispatchBoxed(cpu, stack);
  const bool slow = facts.matrix_product && compute_dtype(half) != half;
  if (slow || lacks_half.load(std::memory_order_relaxed)) return Detour(facts, half).run(op, stack);
  const torch::jit::Stack arguments(stack->end() - static_cast<std::ptrdiff_t>(n), stack->end());
  try {
    op.redispatchBoxed(cpu, stack);
    return;
  } catch (const c10::Error&) {
    // Either the kernel lacks the dtype or the arguments are wrong; the second shows again
    stack->resize(base);
    stack->insert(stack->end(), arguments.begin(), arguments.end());
  }
  Detour(facts, half).run(op, stack);
  lacks_half.store(true, std::memory_order_relaxed);
}

}  // namespace blackwell_compat::fallback
