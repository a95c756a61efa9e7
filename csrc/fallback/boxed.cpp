// Arguments to the host, the CPU's kernel, results to the card.
#include "fallback/boxed.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/autocast_mode.h>

#include <forward_list>
#include <mutex>
#include <unordered_map>

#include "fallback/call.h"
#include "fallback/counters.h"
#include "fallback/generator.h"
#include "fallback/half.h"
#include "fallback/shadow.h"
#include "fallback/values.h"
#include "runtime/copy.h"
#include "runtime/kernels.h"

namespace blackwell_compat::fallback {
namespace {

using at::Tensor;
using c10::IValue;

std::atomic<Notice> chosen_notice = Notice::kWarn;
std::atomic<int64_t> in_flight = 0;

struct InFlight {
  InFlight() { ++in_flight; }
  ~InFlight() { --in_flight; }
};

void warn(const std::string& op, const Counts& price) {
  TORCH_WARN(
      op, " runs on the CPU, since no kernel of it works on this card: ", price.nanoseconds / 1000, " us in its first call, ",
      price.to_host_bytes, " bytes from and ", price.to_device_bytes,
      " to the card. Calls are counted in blackwell_compat.fallbacks(); BLACKWELL_COMPAT_FALLBACK=silent says nothing, =error "
      "raises.");
}

// That of a tensor on a card, or null.
c10::StorageImpl* storage_of(const Tensor& tensor) {
  const bool there = tensor.defined() && tensor.is_cuda() && tensor.has_storage();
  return there ? tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl() : nullptr;
}

void flush_of(const Tensor& tensor) {
  if (c10::StorageImpl* const storage = storage_of(tensor)) flush(storage);
}

// Gives the storages of all tensors in a value no shadows any more.
void write_unseen(const IValue& value) {
  each_tensor(value, [](const Tensor& tensor) {
    if (c10::StorageImpl* const storage = storage_of(tensor)) never_shadow(storage);
  });
  if (!value.isList() || value.isTensorList()) return;
  for (const IValue& item : value.toListRef()) write_unseen(item);
}

// Whether somebody wants to see what a composite is made of: autograd, backward or forward, or a subclass as FakeTensor.
bool is_watched(at::ArrayRef<IValue> arguments) {
  const bool backward = at::GradMode::is_enabled();
  bool found = false;
  for (const IValue& value : arguments) {
    each_tensor(value, [&](const Tensor& tensor) {
      if (!tensor.defined() || found) return;
      found = (backward && tensor.requires_grad()) || tensor._fw_grad(0).defined() || at::isTensorSubclassLike(tensor);
    });
  }
  return found;
}

// While kernels are gathered, a call that misses one is left to the CPU.
bool call_own(const Attempt& own, const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  if (!runtime::gathers_kernels()) return own(op, keys, stack);
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size()).vec();
  const size_t base = stack->size() - arguments.size();
  try {
    return own(op, keys, stack);
  } catch (const runtime::NotLoaded&) {
    stack->resize(base);
    stack->insert(stack->end(), arguments.begin(), arguments.end());
    return false;
  }
}

}  // namespace

void set_notice(Notice notice) { chosen_notice = notice; }

int64_t calls_in_flight() { return in_flight; }

void BoxedKernel::operator()(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  if (original_.there() && only_cards_with_kernels(*stack, facts_.arguments.size())) return original_.call(op, stack);
  check_runs_on_host(op, facts_.name, c10::DispatchKey::CPU);
  const InFlight flying;
  const Notice notice = runtime::gathers_kernels() ? Notice::kSilent : chosen_notice.load(std::memory_order_relaxed);
  TORCH_CHECK_NOT_IMPLEMENTED(
      notice != Notice::kError, facts_.name,
      ": no kernel of it works on this card, and BLACKWELL_COMPAT_FALLBACK=error forbids the CPU; set it to "
      "warn or silent");
  const Counting counting(facts_.name);
  const size_t n = facts_.arguments.size(), base = stack->size() - n;
  Call call(facts_.name);
  for (size_t i = 0; i < n; ++i) {
    const IValue& value = (*stack)[base + i];
    each_tensor(value, [&](const Tensor& tensor) { call.bind(tensor, facts_.arguments[i]); });
    if (value.isDevice() && value.toDevice().is_cuda()) call.bind(value.toDevice());
  }
  TORCH_CHECK(!runtime::is_capturing(call.device()), facts_.name,
              ": it runs on the CPU on this card, which a CUDA graph cannot record; run this part outside of torch.cuda.graph");
  call.bring(facts_.mixes_devices);
  for (size_t i = 0; i < n; ++i) {
    IValue& value = (*stack)[base + i];
    replace_tensors(value, [&](const Tensor& tensor) { return call.host(tensor); });
    if (value.isDevice() && value.toDevice().is_cuda()) value = c10::Device(c10::kCPU);
  }
  if (facts_.generator_argument >= 0) {
    IValue& generator = (*stack)[base + facts_.generator_argument];
    generator = host_generator(generator, call.device());
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  call_on_cpu(op, facts_, lacks_half_, stack);
  call.write_back();
  const size_t returned = op.schema().returns().size();
  for (size_t i = stack->size() - returned; i < stack->size(); ++i) {
    replace_tensors((*stack)[i], [&](const Tensor& tensor) { return call.device(tensor); });
  }
  if (notice == Notice::kWarn && !told_.exchange(true)) warn(facts_.name, counting.elapsed());
}

ChosenKernel::ChosenKernel(const c10::OperatorHandle& op, const Attempt& own)
    : own_(own), boxed_(op), arguments_(op.schema().arguments().size()) {
  const OpFacts facts(op);
  for (size_t i = 0; i < arguments_; ++i) {
    if (facts.arguments[i].written) written_.push_back(i);
    if (facts.mixes_devices && *op.schema().arguments()[i].type() == *c10::ListType::ofOptionalTensors()) indices_.push_back(i);
  }
}

// Indices of a tensor on a card may lie on the CPU.
void ChosenKernel::bring_indices(torch::jit::Stack* stack) const {
  const size_t base = stack->size() - arguments_;
  const IValue& self = (*stack)[base];
  if (!self.isTensor() || !self.toTensor().is_cuda() || !kernels_chosen(self.toTensor().device())) return;
  const c10::Device card = self.toTensor().device();
  for (const size_t place : indices_) {
    replace_tensors((*stack)[base + place],
                    [&](const Tensor& t) { return t.defined() && t.is_cpu() && t.dim() > 0 ? t.to(card) : t; });
  }
}

bool ChosenKernel::attempt(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  if (!indices_.empty()) bring_indices(stack);
  if (!kernels_chosen(*stack, arguments_)) return false;
  const auto arguments = torch::jit::last(*stack, arguments_);
  for (const IValue& value : arguments) each_tensor(value, flush_of);
  std::forward_list<Writing> writings;
  for (const size_t place : written_) {
    each_tensor(arguments[place], [&](const Tensor& tensor) {
      if (c10::StorageImpl* const storage = storage_of(tensor)) writings.emplace_front(storage, 0, storage->nbytes());
    });
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return call_own(own_, op, keys, stack);
}

void ChosenKernel::operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  if (!attempt(op, keys, stack)) boxed_(op, keys, stack);
}

void ChosenComposite::operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const auto arguments = torch::jit::last(*stack, arguments_);
  if (kernels_chosen(*stack, arguments_, on_host_) && !is_watched(arguments)) {
    for (const IValue& value : arguments) each_tensor(value, flush_of);
    if (call_own(own_, op, keys, stack)) return;
  }
  op.callBoxedForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd, *stack);
}

void boxed_any(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  static std::mutex mutex;
  static auto* const kernels = new std::unordered_map<c10::OperatorName, BoxedKernel>;  // never destroyed: used until exit
  BoxedKernel* kernel = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    kernel = &kernels->try_emplace(op.operator_name(), OpFacts(op)).first->second;
  }
  (*kernel)(op, keys, stack);
}

void boxed_collective(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  for (const IValue& value : torch::jit::last(*stack, op.schema().arguments().size())) write_unseen(value);
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, c10::DispatchKey::BackendSelect), stack);
}

}  // namespace blackwell_compat::fallback
