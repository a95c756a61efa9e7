// The table of driver functions, contexts, and PyTorch's current stream.
#include "runtime/driver.h"

#include <array>
#include <atomic>
#include <mutex>

#include "runtime/dynlib.h"

namespace blackwell_compat::runtime {
namespace {

template <typename F>
void look_up(const DynamicLibrary& library, const char* name, F& function) {
  function = reinterpret_cast<F>(library.symbol(name));
  TORCH_CHECK(function, "CUDA driver: libcuda.so.1 has no ", name, "; install a driver of CUDA 11 or newer");
}

const DynamicLibrary& library_of_driver() {
  static const DynamicLibrary library({"libcuda.so.1", "libcuda.so"}, DynamicLibrary::Load::kNow);
  return library;
}

Driver load() {
  const DynamicLibrary& library = library_of_driver();
  TORCH_CHECK(library.found(), "CUDA driver: not found (", library.message(), "); install the NVIDIA driver");
  Driver d{};
  look_up(library, "cuInit", d.cuInit);
  look_up(library, "cuDriverGetVersion", d.cuDriverGetVersion);
  look_up(library, "cuDeviceGet", d.cuDeviceGet);
  look_up(library, "cuDeviceGetName", d.cuDeviceGetName);
  look_up(library, "cuDeviceGetAttribute", d.cuDeviceGetAttribute);
  look_up(library, "cuDevicePrimaryCtxRetain", d.cuDevicePrimaryCtxRetain);
  look_up(library, "cuCtxGetCurrent", d.cuCtxGetCurrent);
  look_up(library, "cuCtxPushCurrent_v2", d.cuCtxPushCurrent);
  look_up(library, "cuCtxPopCurrent_v2", d.cuCtxPopCurrent);
  look_up(library, "cuGetErrorName", d.cuGetErrorName);
  look_up(library, "cuGetErrorString", d.cuGetErrorString);
  look_up(library, "cuMemcpyHtoDAsync_v2", d.cuMemcpyHtoDAsync);
  look_up(library, "cuMemcpyDtoHAsync_v2", d.cuMemcpyDtoHAsync);
  look_up(library, "cuMemcpyDtoDAsync_v2", d.cuMemcpyDtoDAsync);
  look_up(library, "cuMemcpyPeerAsync", d.cuMemcpyPeerAsync);
  look_up(library, "cuMemsetD8Async", d.cuMemsetD8Async);
  look_up(library, "cuMemGetInfo_v2", d.cuMemGetInfo);
  look_up(library, "cuPointerGetAttribute", d.cuPointerGetAttribute);
  look_up(library, "cuMemHostAlloc", d.cuMemHostAlloc);
  look_up(library, "cuMemFreeHost", d.cuMemFreeHost);
  look_up(library, "cuEventCreate", d.cuEventCreate);
  look_up(library, "cuEventRecord", d.cuEventRecord);
  look_up(library, "cuEventDestroy_v2", d.cuEventDestroy);
  look_up(library, "cuEventElapsedTime", d.cuEventElapsedTime);
  look_up(library, "cuEventQuery", d.cuEventQuery);
  look_up(library, "cuEventSynchronize", d.cuEventSynchronize);
  look_up(library, "cuStreamWaitEvent", d.cuStreamWaitEvent);
  look_up(library, "cuStreamSynchronize", d.cuStreamSynchronize);
  look_up(library, "cuStreamIsCapturing", d.cuStreamIsCapturing);
  look_up(library, "cuModuleLoadData", d.cuModuleLoadData);
  look_up(library, "cuModuleGetFunction", d.cuModuleGetFunction);
  look_up(library, "cuFuncSetAttribute", d.cuFuncSetAttribute);
  look_up(library, "cuLaunchKernel", d.cuLaunchKernel);
  return d;
}

using CurrentStream = int32_t (*)(int32_t device_index, void** stream);

// A C function that every CUDA build of torch 2.4 to 2.15 exports; its C++ ones change their names.
CurrentStream load_current_stream() {
  const DynamicLibrary library({"libtorch_cuda.so"}, DynamicLibrary::Load::kOnlyIfLoaded);
  const auto function = reinterpret_cast<CurrentStream>(library.symbol("aoti_torch_get_current_cuda_stream"));
  TORCH_CHECK(function, "CUDA: this torch has no aoti_torch_get_current_cuda_stream (", library.message(),
              "); install a CUDA build of torch 2.4 or newer");
  return function;
}

}  // namespace

const Driver& driver() {
  static const Driver loaded = load();
  return loaded;
}

bool has_driver() { return library_of_driver().found(); }

std::string driver_version() {
  int version = 0;
  BC_CU(cuDriverGetVersion(&version), "Asking the driver for its version");
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string describe(Result error) {
  const char *name = nullptr, *text = nullptr;
  driver().cuGetErrorName(error, &name);
  driver().cuGetErrorString(error, &text);
  return std::string(name ? name : "CUDA error") + " (" + std::to_string(error) + "): " + (text ? text : "unknown");
}

void fail(Result error, const char* call, const std::string& context) {
  const std::string text = c10::str("CUDA driver: ", call, " -> ", describe(error), ". ", context);
  TORCH_CHECK_WITH(OutOfMemoryError, error != kOutOfMemory, text);
  TORCH_CHECK(false, text);
}

Context primary_context(c10::Device device) {
  static std::array<std::atomic<Context>, kMostDevices> contexts{};
  static std::mutex mutex;
  std::atomic<Context>& context = contexts.at(device.index());
  if (Context made = context.load(std::memory_order_acquire)) return made;
  const std::lock_guard<std::mutex> lock(mutex);
  if (!context.load()) {
    int ordinal = 0;
    Context made = nullptr;
    BC_CU(cuInit(0), "Before the first use of ", device);
    BC_CU(cuDeviceGet(&ordinal, device.index()), "Looking for ", device);
    BC_CU(cuDevicePrimaryCtxRetain(&made, ordinal), "Opening ", device);
    context.store(made, std::memory_order_release);
  }
  return context.load();
}

UseContext::UseContext(c10::Device device) {
  Context now = nullptr;
  const Context wanted = primary_context(device);
  BC_CU(cuCtxGetCurrent(&now), "Using ", device);
  if (now == wanted) return;
  BC_CU(cuCtxPushCurrent(wanted), "Using ", device);
  pushed_ = true;
}

UseContext::~UseContext() {
  Context popped = nullptr;
  if (pushed_) driver().cuCtxPopCurrent(&popped);
}

Stream current_stream(c10::Device device) {
  static const CurrentStream look = load_current_stream();
  Stream stream = nullptr;
  TORCH_CHECK(look(device.index(), &stream) == 0, "CUDA: no current stream on ", device);
  return stream;
}

}  // namespace blackwell_compat::runtime
