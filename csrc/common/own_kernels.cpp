// A state for each card, and the table of ops.
#include "common/own_kernels.h"

#include <array>
#include <atomic>
#include <unordered_map>

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

std::unordered_map<std::string, c10::KernelFunction>& own() {
  static auto* const kernels = new std::unordered_map<std::string, c10::KernelFunction>;
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

OwnKernel::OwnKernel(const std::string& op, c10::KernelFunction function) { own().emplace(op, std::move(function)); }

const c10::KernelFunction* own_kernel(const std::string& op) {
  const auto found = own().find(op);
  return found == own().end() ? nullptr : &found->second;
}

void choose_kernels(c10::Device device, bool chosen) { state(device).chosen = chosen; }

bool kernels_chosen(const torch::jit::Stack& stack, size_t count) {
  if (fallback::in_lazy_call()) return false;
  bool chosen = true, any = false;
  for (size_t i = stack.size() - count; i < stack.size(); ++i) {
    fallback::each_tensor(stack[i], [&](const at::Tensor& tensor) {
      if (!tensor.defined()) return;
      any = true;
      chosen = chosen && tensor.is_cuda() && state(tensor.device()).chosen.load(std::memory_order_relaxed);
    });
  }
  return any && chosen;
}

}  // namespace blackwell_compat
