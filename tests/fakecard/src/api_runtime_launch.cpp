// What nvcc's code calls to register and launch kernels.
#include <algorithm>
#include <vector>

#include "kernel.h"

using namespace fakecard;

namespace {

struct Configuration {
  Dim3 grid, block;
  size_t shared_bytes;
  void* stream;
};
thread_local std::vector<Configuration> t_configurations;

struct LaunchConfig {  // cudaLaunchConfig_t
  Dim3 grid, block;
  size_t shared_bytes;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};

struct FunctionAttributes {  // cudaFuncAttributes
  size_t shared_bytes, constant_bytes, local_bytes;
  int max_threads, registers, ptx_version, binary_version, cache_mode, max_dynamic_shared_bytes, carveout, cluster_must_be_set,
      cluster[3], cluster_policy, portable_cluster, reserved[16];
};
static_assert(sizeof(FunctionAttributes) == 144, "as large as the real one");

constexpr int kRegistersOfAKernel = 32;

}  // namespace

FAKECARD_API FatBinary** __cudaRegisterFatBinary(const void* wrapper) {
  auto** handle = new FatBinary*;  // what a program keeps is a pointer to a pointer
  *handle = new FatBinary{wrapper, {}};
  return handle;
}
FAKECARD_API void __cudaRegisterFatBinaryEnd(FatBinary**) {}
FAKECARD_API void __cudaUnregisterFatBinary(FatBinary**) {}  // at exit; launches may still come from other libraries' destructors
FAKECARD_API char __cudaInitModule(FatBinary**) { return 1; }
FAKECARD_API void __cudaRegisterFunction(FatBinary** handle, const char* host, char*, const char* name, int, void*, void*, void*,
                                         void*, int*) {
  register_function(host, name, *handle);
}
// Nobody can ask for a variable's address: cudaGetSymbolAddress is not implemented
FAKECARD_API void __cudaRegisterVar(FatBinary**, char*, char*, const char*, int, size_t, int, int) {}

FAKECARD_API unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared_bytes, void* stream) {
  t_configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}
FAKECARD_API Error __cudaPopCallConfiguration(Dim3* grid, Dim3* block, size_t* shared_bytes, void** stream) {
  if (t_configurations.empty()) return kInvalidValue;
  const Configuration it = t_configurations.back();
  t_configurations.pop_back();
  *grid = it.grid;
  *block = it.block;
  *shared_bytes = it.shared_bytes;
  *stream = it.stream;
  return kSuccess;
}

FAKECARD_API Error cudaLaunchKernel(const void* function, Dim3, Dim3, void**, size_t, void* stream) {
  return runtime_call(__func__, [&] { return launch_registered(function, stream); });
}
FAKECARD_API Error cudaLaunchCooperativeKernel(const void* function, Dim3, Dim3, void**, size_t, void* stream) {
  return runtime_call(__func__, [&] { return launch_registered(function, stream); });
}
FAKECARD_API Error cudaLaunchKernelExC(const LaunchConfig* config, const void* function, void**) {
  return runtime_call(__func__, [&] { return launch_registered(function, config->stream); });
}
// CUDA 13's launches: the handle of a kernel is its host pointer here
FAKECARD_API Error __cudaGetKernel(const void** kernel, const void* function) {
  *kernel = function;
  return kSuccess;
}
FAKECARD_API Error __cudaLaunchKernel(const void* kernel, Dim3, Dim3, void**, size_t, void* stream) {
  return runtime_call("cudaLaunchKernel", [&] { return launch_registered(kernel, stream); });
}
FAKECARD_API Error cudaGetFuncBySymbol(const void** handle, const void* function) {
  return runtime_call(__func__, [&] {
    *handle = function;
    return query_registered(function);
  });
}

FAKECARD_API Error cudaFuncGetAttributes(FunctionAttributes* attributes, const void* function) {
  return runtime_call(__func__, [&] {
    const Error error = query_registered(function);
    if (error) return error;
    *attributes = {};
    const Card& card = cards()[static_cast<size_t>(current_device())];
    attributes->max_threads = 1024;
    attributes->registers = kRegistersOfAKernel;
    attributes->ptx_version = attributes->binary_version = card.major * 10 + card.minor;
    attributes->max_dynamic_shared_bytes = 49152;
    return kSuccess;
  });
}
FAKECARD_API Error cudaFuncSetAttribute(const void* function, int, int) {
  return runtime_call(__func__, [&] { return query_registered(function); });
}
FAKECARD_API Error cudaFuncSetCacheConfig(const void* function, int) {
  return runtime_call(__func__, [&] { return query_registered(function); });
}
FAKECARD_API Error cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int threads,
                                                                          size_t shared_bytes, unsigned) {
  return runtime_call(__func__, [&] {
    const Card& card = cards()[static_cast<size_t>(current_device())];
    if (threads <= 0 || threads > 1024) return kInvalidValue;
    *blocks = card.threads_per_multiprocessor / threads;
    if (shared_bytes) *blocks = std::min(*blocks, static_cast<int>(card.shared_per_multiprocessor / shared_bytes));
    return query_registered(function);
  });
}
FAKECARD_API Error cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                                 size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared_bytes, 0);
}
