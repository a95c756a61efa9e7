// The driver's count, and the registry of callbacks that PyTorch's allocator goes through.
#include "runtime/device_memory.h"

#include <c10/util/Registry.h>

#include <memory>
#include <string>

#include "runtime/driver.h"
#include "runtime/dynlib.h"

namespace blackwell_compat::runtime {
namespace {

// As in c10/cuda/CUDACachingAllocator.h, which includes CUDA's headers.
struct FreeMemoryCallback {
  virtual ~FreeMemoryCallback() = default;
  virtual bool Execute() = 0;
};
using Callbacks = c10::Registry<std::string, std::unique_ptr<FreeMemoryCallback>>;

struct Release : FreeMemoryCallback {
  explicit Release(bool (*release)()) : release_(release) {}
  bool Execute() override { return release_(); }
  bool (*release_)();
};

// With the two ABIs of std::string that wheels are built for; null where another allocator's library stands there.
Callbacks* callbacks() {
  const DynamicLibrary library({"libc10_cuda.so"}, DynamicLibrary::Load::kOnlyIfLoaded);
  for (const char* name : {"_ZN3c1031FreeCudaMemoryCallbacksRegistryB5cxx11Ev", "_ZN3c1031FreeCudaMemoryCallbacksRegistryEv"}) {
    if (void* const function = library.symbol(name)) return reinterpret_cast<Callbacks* (*)()>(function)();
  }
  return nullptr;
}

}  // namespace

std::optional<DeviceMemory> device_memory(c10::Device device) {
  const UseContext use(device);
  DeviceMemory memory{};
  if (driver().cuMemGetInfo(&memory.free, &memory.total) != 0) return std::nullopt;
  return memory;
}

void before_allocator_grows(bool (*release)()) {
  Callbacks* const all = callbacks();
  const std::string name = "blackwell_compat";
  if (!all || all->Has(name)) return;
  all->Register(name, [release] { return std::make_unique<Release>(release); });
}

}  // namespace blackwell_compat::runtime
