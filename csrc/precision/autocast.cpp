// One boxed kernel at the autocast keys: cast, and on to the op itself.
#include "precision/autocast.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <array>
#include <memory>
#include <vector>

#include "fallback/values.h"

namespace blackwell_compat::precision {
namespace {

using at::Tensor;
using c10::IValue;

constexpr std::array kDevices = {c10::kCPU, c10::kCUDA};

// What a block found
struct Before {
  std::array<bool, 2> enabled;
  std::array<at::ScalarType, 2> dtypes;
};
thread_local std::vector<Before> blocks;

// Casts of weights are kept until the outermost block ends, by the weight alone.
void set(size_t place, bool enabled, at::ScalarType dtype) {
  const auto device = kDevices[place];
  if (at::autocast::get_autocast_dtype(device) != dtype) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device, enabled);
  at::autocast::set_autocast_dtype(device, dtype);
}

// float32 where one of them is that, or where they differ; float64 does not count
at::ScalarType widest(at::ArrayRef<IValue> values, c10::DeviceType device) {
  const auto low = at::autocast::get_autocast_dtype(device);
  auto dtype = low;
  for (const IValue& value : values) {
    fallback::each_tensor(value, [&](const Tensor& tensor) {
      if (at::autocast::is_eligible(tensor, device) && tensor.scalar_type() != low) dtype = at::kFloat;
    });
  }
  return dtype;
}

Tensor casted(at::ScalarType dtype, const Tensor& tensor, c10::DeviceType device) {
  const bool half_complex = tensor.scalar_type() == at::kComplexHalf && dtype == at::kFloat;
  return half_complex ? tensor.to(at::kComplexFloat) : at::autocast::cached_cast(dtype, tensor, device);
}

class CastKernel : public c10::OperatorKernel {
 public:
  CastKernel(const c10::OperatorHandle& op, Cast cast, c10::DeviceType device)
      : cast_(cast),
        device_(device),
        key_(at::autocast::get_autocast_dispatch_key_from_device_type(device)),
        arguments_(op.schema().arguments().size()) {
    const auto dtype = op.schema().argumentIndexWithName("dtype");
    if (dtype) dtype_ = *dtype;
  }

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
    const auto given = torch::jit::last(*stack, arguments_);
    const bool named = dtype_ >= 0 && !given[dtype_].isNone();
    if (!is_active() || named) {
      return op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, key_), stack);
    }
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(key_);
    const auto dtype = cast_ == Cast::kFull  ? at::kFloat
                       : cast_ == Cast::kLow ? at::autocast::get_autocast_dtype(device_)
                                             : widest(given, device_);
    for (size_t i = stack->size() - arguments_; i < stack->size(); ++i) {
      fallback::replace_tensors((*stack)[i], [&](const Tensor& tensor) { return casted(dtype, tensor, device_); });
    }
    op.callBoxed(stack);
  }

 private:
  const Cast cast_;
  const c10::DeviceType device_;
  const c10::DispatchKey key_;
  const size_t arguments_;
  int dtype_ = -1;
};

void add(torch::Library& library, c10::DeviceType device) {
  const auto key = at::autocast::get_autocast_dispatch_key_from_device_type(device);
  for (const Rule& rule : rules(device)) {
    const auto dot = rule.op.find('.');
    const auto op = c10::Dispatcher::singleton().findSchema(
        {"aten::" + rule.op.substr(0, dot), dot == std::string::npos ? "" : rule.op.substr(dot + 1)});
    if (!op || op->hasKernelForDispatchKey(key)) continue;
    library.impl(rule.op.c_str(), torch::CppFunction::makeFromBoxedFunctor(std::make_unique<CastKernel>(*op, rule.cast, device)));
  }
}

}  // namespace

void enter(at::ScalarType cpu, at::ScalarType cuda) {
  Before before;
  for (size_t i = 0; i < kDevices.size(); ++i) {
    before.enabled[i] = at::autocast::is_autocast_enabled(kDevices[i]);
    before.dtypes[i] = at::autocast::get_autocast_dtype(kDevices[i]);
  }
  blocks.push_back(before);
  at::autocast::increment_nesting();
  const std::array wanted = {cpu, cuda};
  for (size_t i = 0; i < kDevices.size(); ++i) set(i, true, wanted[i]);
}

void leave() {
  TORCH_INTERNAL_ASSERT(!blocks.empty());
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  for (size_t i = 0; i < kDevices.size(); ++i) set(i, blocks.back().enabled[i], blocks.back().dtypes[i]);
  blocks.pop_back();
}

bool is_active() { return !blocks.empty(); }

TORCH_LIBRARY_IMPL(aten, AutocastCPU, m) { add(m, c10::kCPU); }
TORCH_LIBRARY_IMPL(aten, AutocastCUDA, m) { add(m, c10::kCUDA); }

}  // namespace blackwell_compat::precision
