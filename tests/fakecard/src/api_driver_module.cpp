// The driver's calls about code: modules, libraries, functions, launches.
#include <algorithm>

#include "kernel.h"

using namespace fakecard;

namespace {

Function* function_of(void* handle) { return is_function(handle) ? static_cast<Function*>(handle) : nullptr; }

Error launch(void* handle, Dim3 grid, Dim3 block, unsigned shared_bytes, void* stream, void** parameters, void** extra) {
  Function* function = function_of(handle);
  if (!function) return kInvalidHandle;
  if (extra) return not_implemented("cuLaunchKernel with a buffer of parameters");
  return launch_function(function, grid, block, shared_bytes, stream, parameters);
}

struct LaunchConfig {  // CUlaunchConfig
  Dim3 grid, block;
  unsigned shared_bytes;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};

constexpr int kRegistersOfAKernel = 32;
Error function_attribute(const Function& function, int* value, int attribute) {
  const Card& card = cards()[static_cast<size_t>(current_device())];
  switch (attribute) {
    case 0:  // threads in a block
      *value = 1024;
      return kSuccess;
    case 1:
    case 2:
    case 3:
    case 7:  // static shared, constant and local bytes; cache mode
      *value = 0;
      return kSuccess;
    case 4:
      *value = kRegistersOfAKernel;
      return kSuccess;
    case 5:
    case 6:  // PTX and binary version
      *value = card.major * 10 + card.minor;
      return kSuccess;
    case 8:  // dynamic shared bytes
      *value = static_cast<int>(function.dynamic_shared);
      return kSuccess;
    default:
      return not_implemented(("function attribute " + std::to_string(attribute)).c_str());
  }
}

}  // namespace

#define CALL(name, parameters, ...) \
  FAKECARD_API Error name parameters { return driver_call(#name, [&]()->Error __VA_ARGS__); }

CALL(cuModuleLoadData, (Module * *module, const void* code), { return load_module(code, module); })
CALL(cuModuleLoadDataEx, (Module * *module, const void* code, unsigned, int*, void**), { return load_module(code, module); })
CALL(cuModuleLoadFatBinary, (Module * *module, const void* code), { return load_module(code, module); })
CALL(cuModuleUnload, (Module * module), { return unload_module(module); })
CALL(cuModuleGetFunction, (Function * *function, Module* module, const char* name),
     { return find_function(module, name, function); })
CALL(cuModuleGetLoadingMode, (int* mode), {
  *mode = 2;  // lazily
  return kSuccess;
})
// A library is a module of the device that is current when it is loaded, and a kernel of it is the function
CALL(cuLibraryLoadData, (Module * *library, const void* code, int*, void**, unsigned, int*, void**, unsigned),
     { return load_module(code, library); })
CALL(cuLibraryUnload, (Module * library), { return unload_module(library); })
CALL(cuLibraryGetKernel, (Function * *kernel, Module* library, const char* name),
     { return find_function(library, name, kernel); })
CALL(cuLibraryGetModule, (Module * *module, Module* library), {
  *module = library;
  return kSuccess;
})
CALL(cuKernelGetFunction, (Function * *function, Function* kernel), {
  *function = kernel;
  return kSuccess;
})

CALL(cuFuncGetAttribute, (int* value, int attribute, void* handle),
     { return function_of(handle) ? function_attribute(*function_of(handle), value, attribute) : kInvalidHandle; })
CALL(cuKernelGetAttribute, (int* value, int attribute, void* handle, int),
     { return function_of(handle) ? function_attribute(*function_of(handle), value, attribute) : kInvalidHandle; })
CALL(cuFuncSetAttribute, (void* handle, int attribute, int value), {
  constexpr int kDynamicShared = 8;
  Function* function = function_of(handle);
  if (!function) return kInvalidHandle;
  if (attribute != kDynamicShared) return kSuccess;
  const auto most = static_cast<int>(cards()[static_cast<size_t>(current_device())].shared_per_block_optin);
  if (value < 0 || value > most) return kInvalidValue;
  function->dynamic_shared = static_cast<unsigned>(value);
  return kSuccess;
})
CALL(cuKernelSetAttribute, (int, int, void* handle, int), { return function_of(handle) ? kSuccess : kInvalidHandle; })
CALL(cuFuncSetCacheConfig, (void* handle, int), { return function_of(handle) ? kSuccess : kInvalidHandle; })
CALL(cuFuncGetParamInfo, (void* handle, size_t index, size_t* offset, size_t* bytes), {
  const Function* function = function_of(handle);
  if (!function || index >= function->parameter_bytes.size()) return kInvalidValue;
  if (offset) return not_implemented("offsets of cuFuncGetParamInfo");
  *bytes = function->parameter_bytes[index];
  return kSuccess;
})
CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int* blocks, void* handle, int threads, size_t shared_bytes), {
  const Card& card = cards()[static_cast<size_t>(current_device())];
  if (!function_of(handle)) return kInvalidHandle;
  if (threads <= 0 || threads > 1024) return kInvalidValue;
  *blocks = card.threads_per_multiprocessor / threads;
  if (shared_bytes) *blocks = std::min(*blocks, static_cast<int>(card.shared_per_multiprocessor / shared_bytes));
  return kSuccess;
})

CALL(cuLaunchKernel,
     (void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
      unsigned shared_bytes, void* stream, void** parameters, void** extra),
     { return launch(function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, parameters, extra); })
CALL(cuLaunchCooperativeKernel,
     (void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
      unsigned shared_bytes, void* stream, void** parameters),
     {
       return launch(function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, parameters, nullptr);
     })
CALL(cuLaunchKernelEx, (const LaunchConfig* config, void* function, void** parameters, void** extra),
     { return launch(function, config->grid, config->block, config->shared_bytes, config->stream, parameters, extra); })
