// Kernels: those that a program registered with the runtime, those that it loaded through the driver, and those that the tests
// gave code for.
#pragma once
#include <memory>

#include "fakecard_kernel.h"
#include "image.h"
#include "stream.h"

namespace fakecard {

struct Dim3 {
  unsigned x, y, z;
};

// The runtime's side: a host pointer stands for a kernel of a fatbin
struct FatBinary {
  const void* wrapper;
  std::vector<Image> images;
  bool parsed = false;
};
void register_function(const void* host, const char* name, FatBinary* binary);
Error launch_registered(const void* host, void* stream);
Error query_registered(const void* host);  // may it run on the current card?

// The driver's side
struct Module;
struct Function {
  std::string name;
  Module* module;
  std::vector<size_t> parameter_bytes;
  std::atomic<unsigned> dynamic_shared{49152};  // bytes that a launch may ask for; cuFuncSetAttribute changes it
};
struct Module {
  int device;
  std::vector<Image> images;  // the one that was chosen
  std::vector<std::unique_ptr<Function>> functions;
};
Error load_module(const void* code, Module** module);
Error unload_module(Module* module);
Error find_function(Module* module, const char* name, Function** function);
bool is_function(const void* handle);
Error launch_function(Function* function, Dim3 grid, Dim3 block, unsigned shared_bytes, void* stream, void** parameters);

}  // namespace fakecard
