// The CUDA driver, by dlopen. Every call goes through BC_CU, which says what failed.
#pragma once
#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include <cstddef>
#include <string>

namespace blackwell_compat::runtime {

using Result = int;
using DeviceAddress = unsigned long long;
using Context = void*;
using Stream = void*;

constexpr int kMostDevices = 64;    // as c10's
constexpr Result kOutOfMemory = 2;  // CUDA_ERROR_OUT_OF_MEMORY

struct Driver {
  Result (*cuInit)(unsigned flags);
  Result (*cuDriverGetVersion)(int* version);
  Result (*cuDeviceGet)(int* device, int ordinal);
  Result (*cuDeviceGetName)(char* name, int bytes, int device);
  Result (*cuDeviceGetAttribute)(int* value, int attribute, int device);
  Result (*cuDevicePrimaryCtxRetain)(Context* context, int device);
  Result (*cuCtxGetCurrent)(Context* context);
  Result (*cuCtxPushCurrent)(Context context);
  Result (*cuCtxPopCurrent)(Context* context);
  Result (*cuGetErrorName)(Result error, const char** text);
  Result (*cuGetErrorString)(Result error, const char** text);
  Result (*cuMemcpyHtoDAsync)(DeviceAddress to, const void* from, size_t bytes, Stream stream);
  Result (*cuMemcpyDtoHAsync)(void* to, DeviceAddress from, size_t bytes, Stream stream);
  Result (*cuMemcpyDtoDAsync)(DeviceAddress to, DeviceAddress from, size_t bytes, Stream stream);
  Result (*cuMemcpyPeerAsync)(DeviceAddress to, Context to_context, DeviceAddress from, Context from_context, size_t bytes,
                              Stream stream);
  Result (*cuMemsetD8Async)(DeviceAddress to, unsigned char value, size_t bytes, Stream stream);
  Result (*cuMemGetInfo)(size_t* free, size_t* total);
  Result (*cuPointerGetAttribute)(void* value, int attribute, DeviceAddress pointer);
  Result (*cuMemHostAlloc)(void** memory, size_t bytes, unsigned flags);
  Result (*cuMemFreeHost)(void* memory);
  Result (*cuEventCreate)(void** event, unsigned flags);
  Result (*cuEventRecord)(void* event, Stream stream);
  Result (*cuEventDestroy)(void* event);
  Result (*cuEventElapsedTime)(float* milliseconds, void* from, void* to);
  Result (*cuEventQuery)(void* event);
  Result (*cuEventSynchronize)(void* event);
  Result (*cuStreamWaitEvent)(Stream stream, void* event, unsigned flags);
  Result (*cuStreamSynchronize)(Stream stream);
  Result (*cuStreamIsCapturing)(Stream stream, int* status);
  Result (*cuModuleLoadData)(void** module, const void* code);
  Result (*cuModuleGetFunction)(void** function, void* module, const char* name);
  Result (*cuFuncSetAttribute)(void* function, int attribute, int value);
  Result (*cuLaunchKernel)(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                           unsigned block_z, unsigned shared_bytes, Stream stream, void** parameters, void** extra);
};

// Loads libcuda at the first call. Throws RuntimeError where there is none, or one that lacks a function.
const Driver& driver();

// Whether there is one.
bool has_driver();

// The CUDA version that the driver is for: "12.9".
std::string driver_version();

// "CUDA_ERROR_OUT_OF_MEMORY (2): out of memory"
std::string describe(Result error);

// Throws what BC_CU does: PyTorch's OutOfMemoryError where it is that, else a RuntimeError.
[[noreturn]] void fail(Result error, const char* call, const std::string& context);

// The primary context of a card, which PyTorch uses; kept for the life of the process.
Context primary_context(c10::Device device);

// Makes a card's primary context current in this thread, for a scope; costs a look where it is current already.
class UseContext {
 public:
  explicit UseContext(c10::Device device);
  ~UseContext();
  UseContext(const UseContext&) = delete;
  UseContext& operator=(const UseContext&) = delete;

 private:
  bool pushed_ = false;
};

// PyTorch's current stream of a card, in this thread.
Stream current_stream(c10::Device device);

}  // namespace blackwell_compat::runtime

#define BC_CU(call, ...)                                                                              \
  do {                                                                                                \
    const ::blackwell_compat::runtime::Result bc_result = ::blackwell_compat::runtime::driver().call; \
    if (bc_result != 0) ::blackwell_compat::runtime::fail(bc_result, #call, c10::str(__VA_ARGS__));   \
  } while (false)
