// Libraries hold registrations; destroying them brings back the kernels below.
#include "fallback/registry.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "common/card_packs.h"
#include "common/own_kernels.h"
#include "fallback/boxed.h"
#include "fallback/cpu_kernels.h"
#include "fallback/facts.h"
#include "fallback/original.h"
#include "fallback/own_ops.h"
#include "fallback/shadow.h"
#include "fallback/sparse.h"
#include "fallback/widened.h"
#include "runtime/host_memory.h"
#include "runtime/kernels.h"

namespace blackwell_compat::fallback {
namespace {

struct Quiet : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

// torch up to 2.6 warns that a kernel is overridden, which is what this is for.
class NoWarnings {
  Quiet handler_;
  const c10::WarningUtils::WarningHandlerGuard guard_{&handler_};
};

// The reverse of full_name.
c10::OperatorName parsed(const std::string& full) {
  const auto dot = full.find('.');
  return {full.substr(0, dot), dot == std::string::npos ? "" : full.substr(dot + 1)};
}

template <class Kernel, typename... Arguments>
torch::CppFunction boxed(Arguments&&... arguments) {
  return torch::CppFunction::makeFromBoxedFunctor(std::make_unique<Kernel>(std::forward<Arguments>(arguments)...));
}

bool returns_view(const c10::OperatorHandle& op) {
  for (const auto& returned : op.schema().returns()) {
    if (returned.alias_info() && !returned.alias_info()->isWrite()) return true;
  }
  return false;
}

class Registry {
 public:
  void install(const std::vector<int64_t>& cards_with_kernels) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!libraries_.empty()) return;
    set_cards_with_kernels(cards_with_kernels);
    runtime::set_before_launch(&flush_all);
    const NoWarnings quiet;
    try {
      add_all();
    } catch (...) {
      clear();
      throw;
    }
    keep_card_packs(true);
  }

  void uninstall() {
    const std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(calls_in_flight() == 0, "disable: another thread is inside an op on the card; wait for it (join the thread) and ",
                "call disable() again");
    set_lazy(false);
    keep_card_packs(false);
    const NoWarnings quiet;
    clear();
    drop_shadows();
    forget_all_widened();
    runtime::release_unused_pinned();
  }

  bool installed() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return !libraries_.empty();
  }

  std::map<std::string, std::string> coverage() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return coverage_;
  }

 private:
  struct Owned {
    std::string space;
    c10::DispatchKey key;
    std::unique_ptr<torch::Library> library;
  };

  void add_all() {
    add_cpu_kernels(library("aten", c10::DispatchKey::CPU));
    add_own_ops(library("aten", c10::DispatchKey::CUDA));
    for (const auto& name : wanted()) add(name);
    add_layout(c10::DispatchKey::SparseCUDA, c10::DispatchKey::SparseCPU);
    add_layout(c10::DispatchKey::SparseCsrCUDA, c10::DispatchKey::SparseCsrCPU);
    add_layout(c10::DispatchKey::NestedTensorCUDA, c10::DispatchKey::NestedTensorCPU);
    add_layout(c10::DispatchKey::QuantizedCUDA, c10::DispatchKey::QuantizedCPU);
    library("_", c10::DispatchKey::CUDA).fallback(torch::CppFunction::makeFromBoxedFunction<&boxed_any>());
  }

  void clear() {
    // The latest first, as the dispatcher stacks them
    while (!libraries_.empty()) libraries_.pop_back();
    coverage_.clear();
  }

  torch::Library& library(const std::string& space, c10::DispatchKey key) {
    for (const Owned& owned : libraries_) {
      if (owned.space == space && owned.key == key) return *owned.library;
    }
    libraries_.push_back({space, key, std::make_unique<torch::Library>(torch::Library::IMPL, space, key, __FILE__, __LINE__)});
    return *libraries_.back().library;
  }

  // What is registered for CUDA, what starts kernels unseen, what ours can do, and this package's ops.
  static std::unordered_set<c10::OperatorName> wanted() {
    auto& dispatcher = c10::Dispatcher::singleton();
    const auto registered = dispatcher.getRegistrationsForDispatchKey(c10::DispatchKey::CUDA);
    std::unordered_set<c10::OperatorName> names(registered.begin(), registered.end());
    for (const auto& text : hidden_launchers()) names.insert(parsed(text));
    for (const auto& text : own_kernels()) names.insert(parsed(text));
    for (const auto& name : dispatcher.getRegistrationsForDispatchKey(c10::DispatchKey::CPU)) {
      if (name.getNamespace() == std::optional<c10::string_view>("blackwell_compat")) names.insert(name);
    }
    return names;
  }

  void add_kernel(const c10::OperatorHandle& op, const Attempt& own) {
    const std::string name = full_name(op.operator_name()), space(*op.operator_name().getNamespace());
    coverage_[name] = "kernel";
    if (!op.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd)) {
      library(space, c10::DispatchKey::CUDA).impl(name.c_str(), boxed<ChosenKernel>(op, own));
      return;
    }
    for (const auto key : {c10::DispatchKey::CUDA, c10::DispatchKey::AutogradCUDA}) {
      library(space, key).impl(name.c_str(), boxed<ChosenComposite>(op, own));
    }
  }

  void add(const c10::OperatorName& name) {
    const auto op = c10::Dispatcher::singleton().findSchema(name);
    if (!op) return;  // a kernel whose schema another library would bring
    if (is_own_op(name)) {
      coverage_[full_name(name)] = "own";
      return;
    }
    if (works_without_kernels(*op) || returns_view(*op)) {
      coverage_[full_name(name)] = "kept";
      return;
    }
    if (*name.getNamespace() == "c10d") {
      coverage_[full_name(name)] = "kept";
      library("c10d", c10::DispatchKey::BackendSelect)
          .impl(full_name(name).c_str(), torch::CppFunction::makeFromBoxedFunction<&boxed_collective>());
      return;
    }
    if (const Attempt* own = own_kernel(full_name(name))) return add_kernel(*op, *own);
    coverage_[full_name(name)] = "fallback";
    library(std::string(*name.getNamespace()), c10::DispatchKey::CUDA).impl(full_name(name).c_str(), boxed<BoxedKernel>(*op));
  }

  void add_layout(c10::DispatchKey card, c10::DispatchKey host) {
    auto& dispatcher = c10::Dispatcher::singleton();
    for (const auto& name : dispatcher.getRegistrationsForDispatchKey(card)) {
      const auto op = dispatcher.findSchema(name);
      if (!op || layout_works_without_kernels(*op, card) || returns_view(*op)) continue;
      library(std::string(*name.getNamespace()), card).impl(full_name(name).c_str(), boxed<LayoutKernel>(OpFacts(*op), host));
    }
  }

  std::mutex mutex_;
  std::vector<Owned> libraries_;
  std::map<std::string, std::string> coverage_;
};

// Never destroyed: at exit the dispatcher may be gone
Registry& registry() {
  static Registry* const made = new Registry;
  return *made;
}

}  // namespace

void install(const std::vector<int64_t>& cards_with_kernels) { registry().install(cards_with_kernels); }
void uninstall() { registry().uninstall(); }
bool installed() { return registry().installed(); }
std::map<std::string, std::string> coverage() { return registry().coverage(); }

}  // namespace blackwell_compat::fallback
