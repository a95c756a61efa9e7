// A state for each card, and the table of ops.
#include "common/own_kernels.h"

#include <array>
#include <atomic>
#include <map>

#include "fallback/shadow.h"
#include "fallback/values.h"
#include "runtime/driver.h"

namespace blackwell_compat {
namespace {

enum class Serve : int8_t { kUnknown, kNo, kYes };

struct State {
  std::atomic<Serve> serve = Serve::kUnknown;
  std::atomic<bool> chosen = false;
};

State& state(c10::Device device) {
  static std::array<State, runtime::kMostDevices> states;
  return states.at(device.index());
}

std::function<bool(int)>& judge() {
  static auto* const kept = new std::function<bool(int)>;  // never destroyed: it belongs to Python
  return *kept;
}

std::map<std::string, Attempt>& own() {
  static auto* const kernels = new std::map<std::string, Attempt>;
  return *kernels;
}

}  // namespace

bool kernels_serve(c10::Device device) {
  Serve serve = state(device).serve.load(std::memory_order_acquire);
  if (serve == Serve::kUnknown) {
    serve = judge() && judge()(device.index()) ? Serve::kYes : Serve::kNo;
    state(device).serve.store(serve, std::memory_order_release);
  }
  return serve == Serve::kYes;
}

void set_kernels_serve(c10::Device device, bool serve) { state(device).serve = serve ? Serve::kYes : Serve::kNo; }
void set_judge(std::function<bool(int)> function) { judge() = std::move(function); }

OwnKernel::OwnKernel(const std::string& op, c10::KernelFunction function) {
  own().emplace(op, [kernel = std::move(function)](const auto& handle, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
    kernel.callBoxed(handle, keys, stack);
    return true;
  });
}

OwnKernel::OwnKernel(const std::string& op, bool (*attempt)(torch::jit::Stack*)) {
  own().emplace(op, [attempt](const auto&, c10::DispatchKeySet, torch::jit::Stack* stack) { return attempt(stack); });
}

OwnKernel::OwnKernel(const std::string& op, std::function<bool(const c10::OperatorHandle&, torch::jit::Stack*)> attempt) {
  own().emplace(op, [attempt = std::move(attempt)](const auto& handle, c10::DispatchKeySet, torch::jit::Stack* stack) {
    return attempt(handle, stack);
  });
}

OwnKernel::OwnKernel(const std::string& op, c10::DispatchKey key) {
  own().emplace(op, [key](const c10::OperatorHandle& handle, c10::DispatchKeySet, torch::jit::Stack* stack) {
    handle.callBoxedForDispatchKey(key, *stack);
    return true;
  });
}

const Attempt* own_kernel(const std::string& op) {
  const auto found = own().find(op);
  return found == own().end() ? nullptr : &found->second;
}

std::vector<std::string> own_kernels() {
  std::vector<std::string> names;
  for (const auto& [name, attempt] : own()) names.push_back(name);
  return names;
}

void choose_kernels(c10::Device device, bool chosen) { state(device).chosen = chosen; }

bool kernels_chosen(c10::Device device) {
  return !fallback::in_lazy_call() && state(device).chosen.load(std::memory_order_relaxed);
}

bool kernels_chosen(const torch::jit::Stack& stack, size_t count, int except) {
  if (fallback::in_lazy_call()) return false;
  bool chosen = true, any = false;
  for (size_t i = stack.size() - count; i < stack.size(); ++i) {
    if (static_cast<int>(i + count - stack.size()) == except) continue;
    fallback::each_tensor(stack[i], [&](const at::Tensor& tensor) {
      if (!tensor.defined() || (tensor.is_cpu() && tensor.dim() == 0)) return;
      any = true;
      chosen = chosen && tensor.is_cuda() && state(tensor.device()).chosen.load(std::memory_order_relaxed);
    });
  }
  return any && chosen;
}

void give(torch::jit::Stack* stack, size_t arguments, std::vector<at::Tensor> results) {
  torch::jit::drop(*stack, arguments);
  for (at::Tensor& result : results) stack->emplace_back(std::move(result));
}

void give(const c10::OperatorHandle& op, torch::jit::Stack* stack, std::vector<at::Tensor> results) {
  give(stack, op.schema().arguments().size(), std::move(results));
}

}  // namespace blackwell_compat
