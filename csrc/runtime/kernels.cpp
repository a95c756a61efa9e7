// Kernels that are loaded, by card and name.
#include "runtime/kernels.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <thread>

#include "runtime/compiler.h"
#include "runtime/copy.h"
#include "runtime/device_info.h"
#include "runtime/driver.h"
#include "runtime/kernel_images.h"
#include "runtime/kernel_sources.h"

namespace blackwell_compat::runtime {
namespace {

constexpr int kSharedBytesUnasked = 48 << 10;  // what a block gets without asking for more

}  // namespace

struct Loaded {
  void* function = nullptr;
  std::mutex asking;
  std::atomic<int> shared_bytes = kSharedBytesUnasked;  // that a launch may ask for; grows under the lock
};

namespace {

constexpr int kDynamicSharedBytes = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr int64_t kMostBlocks = (int64_t{1} << 31) - 1;

std::string name_of(std::string_view line) {
  const size_t begin = line.find('(') + 1;
  return std::string(line.substr(begin, line.find(',') - begin));
}

struct Entry {
  std::string line;
  size_t source;
  bool embedded;
};

std::map<std::string, Entry, std::less<>>& entries() {
  static auto* const all = [] {
    auto* made = new std::map<std::string, Entry, std::less<>>;
    for (const auto& [line, source] : kernel_entries())
      made->emplace(name_of(line), Entry{line, static_cast<size_t>(source), true});
    return made;
  }();
  return *all;
}

const Entry& entry_of(const std::string& name) {
  const auto found = entries().find(name);
  TORCH_CHECK(found != entries().end(), "kernels: there is none of the name ", name);
  return found->second;
}

// Machine code, or PTX for the driver.
struct Code {
  std::string architecture;
  const void* embedded = nullptr;  // with other kernels; else `compiled` holds this one alone
  std::string compiled;

  const void* data() const { return embedded ? embedded : compiled.data(); }
};

// Whether the driver refused machine code there and took PTX, as with CUDA_FORCE_PTX_JIT=1. Then nobody makes any more.
std::atomic<bool>& takes_ptx_alone(c10::Device device) {
  static std::array<std::atomic<bool>, kMostDevices> cards{};
  return cards.at(device.index());
}

std::string compiled_for(const std::string& name, c10::Device device, const Target& target,
                         const std::function<void()>& before = {}) {
  const auto options = kernel_options(target.architecture, device_info(device).tiles_for);
  return compiled(name + ".cu", kernel_source(name), options, target, before);
}

Code code_of(const std::string& name, c10::Device device, const std::function<void()>& before_compiling = {}) {
  const int capability = device_info(device).capability, tiles_for = device_info(device).tiles_for;
  const Entry& entry = entry_of(name);
  const std::string embedded = entry.embedded && !takes_ptx_alone(device) ? embedded_for(capability) : "";
  if (10 * architecture_of(embedded) == tiles_for) return {embedded, kernel_images().fatbins.at(entry.source), {}};
  Target target = target_for(capability);
  if (takes_ptx_alone(device)) target = as_ptx(target);
  return {target.architecture, nullptr, compiled_for(name, device, target, before_compiling)};
}

void* load_module(const std::string& name, c10::Device device, const Code& code) {
  void* module = nullptr;
  Result result = driver().cuModuleLoadData(&module, code.data());
  if (result == 0) return module;
  const int capability = device_info(device).capability;
  const auto target = find_target(capability);
  if (result != kOutOfMemory && target && code.architecture.rfind("sm_", 0) == 0) {
    const std::string ptx = compiled_for(name, device, as_ptx(*target));
    const Result of_ptx = driver().cuModuleLoadData(&module, ptx.data());
    if (of_ptx == 0) {
      takes_ptx_alone(device) = true;
      return module;
    }
    if (of_ptx == kOutOfMemory) result = of_ptx;
  }
  fail(result, "cuModuleLoadData",
       c10::str(name, " on ", device, ", compute capability ", capability / 10, ".", capability % 10, ", was compiled to ",
                code.architecture, "; the driver is for CUDA ", driver_version(),
                result == kOutOfMemory ? ". Free tensors of this card"
                                       : ". Where it is older than the compiler, install a newer driver"));
}

class Table {
 public:
  Loaded* find(std::string_view name) {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    const auto found = loaded_.find(name);
    return found == loaded_.end() ? nullptr : found->second.get();
  }

  Loaded* load(const std::string& name, c10::Device device, const Code& code) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    auto& slot = loaded_[name];
    if (slot) return slot.get();
    const UseContext context(device);
    void *module = code.embedded ? modules_[code.embedded] : nullptr, *function = nullptr;
    if (!module) {
      module = load_module(name, device, code);
      if (code.embedded && !takes_ptx_alone(device)) modules_[code.embedded] = module;
    }
    BC_CU(cuModuleGetFunction(&function, module, name.c_str()), name, " on ", device);
    auto made = std::make_unique<Loaded>();
    made->function = function;
    slot = std::move(made);
    return slot.get();
  }

 private:
  std::shared_mutex mutex_;
  std::map<std::string, std::unique_ptr<Loaded>, std::less<>> loaded_;
  std::map<const void*, void*> modules_;  // of what is embedded
};

// Names of kernels that launches missed, by card.
class Gathered {
 public:
  void add(std::string_view name, c10::Device device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    names_[device.index()].emplace(name);
  }

  std::vector<std::string> take(c10::Device device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::set<std::string> names = std::exchange(names_[device.index()], {});
    return {names.begin(), names.end()};
  }

  std::atomic<bool> on = false;

 private:
  std::mutex mutex_;
  std::map<int, std::set<std::string>> names_;
};

Gathered& gathered() {
  static auto* const all = new Gathered;
  return *all;
}

// Never destroyed: it belongs to Python
CompileNotice& compile_notice() {
  static auto* const notice = new CompileNotice;
  return *notice;
}

// Never destroyed: it belongs to Python
MemoryRelease& memory_release() {
  static auto* const release = new MemoryRelease;
  return *release;
}

// What `attempt` gives, or its second try where the card had no memory left for the first
template <typename F>
auto with_room(c10::Device device, const F& attempt) {
  try {
    return attempt();
  } catch (const c10::OutOfMemoryError&) {
    if (!memory_release() || is_capturing(device)) throw;
  }
  memory_release()();
  return attempt();
}

// Never destroyed: modules live as long as the context
Table& table(c10::Device device) {
  static auto* const tables = new std::array<Table, kMostDevices>;
  return tables->at(device.index());
}

Loaded& loaded(std::string_view name, c10::Device device) {
  if (Loaded* found = table(device).find(name)) return *found;
  TORCH_CHECK(!is_capturing(device), "kernels: ", std::string(name), " is not loaded on ", device,
              " yet, which a CUDA graph that is being captured forbids; call blackwell_compat.warmup, or run the model once, ",
              "before torch.cuda.graph");
  if (gathers_kernels()) {
    gathered().add(name, device);
    throw NotLoaded();
  }
  const std::string named(name);
  bool told = false;
  const Code code = code_of(named, device, [&] {
    told = static_cast<bool>(compile_notice());
    if (told) compile_notice()(named, device.index());
  });
  if (told) compile_notice()("", device.index());
  return *with_room(device, [&] { return table(device).load(named, device, code); });
}

std::atomic<void (*)()> before_launch = nullptr;

// Before a launch may take `bytes` of shared memory; never takes any back, which another thread may count on.
void allow_shared(Loaded& kernel, int bytes, std::string_view name, c10::Device device) {
  const std::lock_guard<std::mutex> lock(kernel.asking);
  if (bytes <= kernel.shared_bytes) return;
  BC_CU(cuFuncSetAttribute(kernel.function, kDynamicSharedBytes, bytes), std::string(name), " on ", device);
  kernel.shared_bytes = bytes;
}

void start(Loaded& kernel, std::string_view name, c10::Device device, const Grid& grid, const void* params) {
  TORCH_CHECK(grid.blocks > 0 && grid.blocks <= kMostBlocks, "kernels: ", std::string(name), " would take ", grid.blocks,
              " blocks, a launch has at most ", kMostBlocks, "; split the tensors");
  if (const auto call = before_launch.load(std::memory_order_relaxed)) call();
  const UseContext context(device);
  if (grid.shared_bytes > kernel.shared_bytes.load(std::memory_order_acquire))
    allow_shared(kernel, grid.shared_bytes, name, device);
  void* parameters[] = {const_cast<void*>(params)};
  with_room(device, [&] {  // the driver may load a module as late as here
    BC_CU(cuLaunchKernel(kernel.function, static_cast<unsigned>(grid.blocks), 1, 1, grid.threads, 1, 1, grid.shared_bytes,
                         current_stream(device), parameters, nullptr),
          std::string(name), " on ", device, ": ", grid.blocks, " blocks of ", grid.threads, " threads, ", grid.shared_bytes,
          " bytes of shared memory");
  });
}

}  // namespace

void gather_kernels(bool on) { gathered().on = on; }
bool gathers_kernels() { return gathered().on.load(std::memory_order_relaxed); }
std::vector<std::string> gathered_kernels(c10::Device device) { return gathered().take(device); }

void set_memory_release(MemoryRelease release) { memory_release() = std::move(release); }
void set_compile_notice(CompileNotice notice) { compile_notice() = std::move(notice); }

void set_before_launch(void (*call)()) { before_launch = call; }

void add_kernel(const std::string& source, const std::string& line, bool embedded) {
  const auto& sources = kernel_sources();
  const auto found = std::find_if(sources.begin(), sources.end(), [&](const KernelSource& one) { return one.name == source; });
  TORCH_INTERNAL_ASSERT(found != sources.end(), source);
  entries().emplace(name_of(line), Entry{line, static_cast<size_t>(found - sources.begin()), embedded});
}

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const auto& entry : entries()) names.push_back(entry.first);
  return names;
}

std::string kernel_source(const std::string& name) {
  const Entry& entry = entry_of(name);
  return kernel_sources().at(entry.source).text + std::string("\n") + entry.line + "\n";
}

std::vector<std::string> kernel_options(const std::string& architecture, int tiles_for) {
  std::vector<std::string> options{"--std=c++17", "--device-as-default-execution-space"};
  if (tiles_for != 10 * architecture_of(architecture)) options.push_back("-DBC_TILES_FOR=" + std::to_string(tiles_for));
  return options;
}

void load_kernels(const std::vector<std::string>& names, c10::Device device) {
  std::vector<std::string> missing;
  for (const std::string& name : names) {
    if (!table(device).find(name)) missing.push_back(name);
  }
  if (missing.empty()) return;
  std::vector<Code> code(missing.size());
  std::vector<std::exception_ptr> failed(missing.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < missing.size(); i = next++) {
      try {
        code[i] = code_of(missing[i], device);
      } catch (...) {
        failed[i] = std::current_exception();
      }
    }
  };
  std::vector<std::thread> others;
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  for (size_t i = 1; i < std::min(cores, missing.size()); ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  for (size_t i = 0; i < missing.size(); ++i) {
    if (failed[i]) std::rethrow_exception(failed[i]);
    with_room(device, [&] { return table(device).load(missing[i], device, code[i]); });
  }
}

void launch(std::string_view name, c10::Device device, const Grid& grid, const void* params) {
  start(loaded(name, device), name, device, grid, params);
}

void Kernel::launch(c10::Device device, const Grid& grid, const void* params) {
  auto& slot = loaded_.at(device.index());
  Loaded* kernel = slot.load(std::memory_order_acquire);
  if (!kernel) {
    kernel = &loaded(name_, device);
    slot.store(kernel, std::memory_order_release);
  }
  start(*kernel, name_, device, grid, params);
}

}  // namespace blackwell_compat::runtime
