// Launches. The runtime's kernels never run here: they fail as on a card without an image, or as "not emulated". The driver's run
// if the tests gave code for their name.
#include "kernel.h"

#include <cxxabi.h>

#include <cstring>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "capture.h"
#include "memory.h"

namespace fakecard {
namespace {

struct Registered {
  const char* name;  // mangled; lives as long as the library that registered it
  FatBinary* binary;
};
struct Tables {
  std::mutex lock;
  std::unordered_map<const void*, Registered> registered;
  std::unordered_set<const void*> functions;
  std::map<std::string, FakecardKernel> emulated;
};
Tables& tables() {
  static Tables& it = *new Tables;
  return it;
}

std::string demangled(const char* name) {
  int status;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string it = text ? text : name;
  free(text);
  return it;
}

Error not_emulated(const std::string& name) {
  tally(Tally::kNotEmulated, name);
  set_not_emulated(name);
  return kNotEmulated;
}

// The name, and kNoBinaryForGpu where the current card has no image
Error check_registered(const void* host, std::string* name) {
  Registered it;
  {
    const std::lock_guard<std::mutex> guard(tables().lock);
    const auto found = tables().registered.find(host);
    if (found == tables().registered.end()) return kInvalidDeviceFunction;
    it = found->second;
    if (!it.binary->parsed) {
      it.binary->parsed = true;
      if (const Error error = parse_code(it.binary->wrapper, &it.binary->images)) return error;
    }
  }
  *name = demangled(it.name);
  return choose(it.binary->images, cards()[static_cast<size_t>(current_device())]) ? kSuccess : kNoBinaryForGpu;
}

}  // namespace

void register_function(const void* host, const char* name, FatBinary* binary) {
  const std::lock_guard<std::mutex> guard(tables().lock);
  tables().registered[host] = {name, binary};
}

Error query_registered(const void* host) {
  std::string name;
  const Error error = check_registered(host, &name);
  if (error) tally(Tally::kQueried, name);
  return error;
}

Error launch_registered(const void* host, void* stream_handle) {
  StreamPtr stream;
  if (const Error error = find_stream(stream_handle, &stream)) return error;
  std::string name;
  const Error error = check_registered(host, &name);
  tally(Tally::kLaunched, name);
  if (const Error wanted = fault("launch", name)) {
    poison(stream->device, wanted);
    return wanted;
  }
  if (error == kNoBinaryForGpu) tally(Tally::kRefused, name);
  return error ? error : not_emulated(name);
}

Error load_module(const void* code, Module** module) {
  auto made = std::make_unique<Module>();
  made->device = current_device();
  if (const Error error = parse_code(code, &made->images)) return error;
  const Card& card = cards()[static_cast<size_t>(made->device)];
  const Image* fitting = choose(made->images, card);
  if (!fitting) {
    tally(Tally::kRefused, "module with " + list(made->images));
    return kNoBinaryForGpu;
  }
  made->images = {*fitting};
  std::vector<KernelCode> kernels;
  if (!kernels_of(*fitting, &kernels)) return not_implemented("reading a compressed image (build it with --no-compress)");
  for (KernelCode& kernel : kernels)
    made->functions.emplace_back(new Function{kernel.name, made.get(), std::move(kernel.parameter_bytes)});
  *module = made.release();
  return kSuccess;
}

Error unload_module(Module* module) {
  const std::lock_guard<std::mutex> guard(tables().lock);
  for (const auto& function : module->functions) tables().functions.erase(function.get());
  delete module;
  return kSuccess;
}

Error find_function(Module* module, const char* name, Function** function) {
  for (const auto& it : module->functions) {
    if (it->name != name) continue;
    const std::lock_guard<std::mutex> guard(tables().lock);
    tables().functions.insert(it.get());
    *function = it.get();
    return kSuccess;
  }
  return kNotFound;
}

bool is_function(const void* handle) {
  const std::lock_guard<std::mutex> guard(tables().lock);
  return tables().functions.count(handle) > 0;
}

Error launch_function(Function* function, Dim3 grid, Dim3 block, unsigned shared_bytes, void* stream_handle, void** parameters) {
  StreamPtr stream;
  if (const Error error = find_stream(stream_handle, &stream)) return error;
  if (function->module->device != stream->device) return kInvalidHandle;
  const unsigned threads = block.x * block.y * block.z;
  if (!grid.x || !grid.y || !grid.z || !threads || threads > 1024 || grid.y > 65535 || grid.z > 65535 ||
      shared_bytes > function->dynamic_shared || (!parameters && !function->parameter_bytes.empty()))
    return kInvalidValue;
  tally(Tally::kLaunched, function->name);
  if (const Error wanted = fault("launch", function->name)) {
    poison(stream->device, wanted);
    return wanted;
  }
  FakecardKernel kernel;
  {
    const std::lock_guard<std::mutex> guard(tables().lock);
    const auto found = tables().emulated.find(function->name);
    kernel = found == tables().emulated.end() ? nullptr : found->second;
  }
  if (!kernel) return not_emulated(function->name);

  struct Arguments {
    std::vector<std::vector<char>> bytes;
    std::vector<void*> pointers;
    std::vector<size_t> sizes;
  };
  auto arguments = std::make_shared<Arguments>();
  arguments->sizes = function->parameter_bytes;
  for (size_t i = 0; i < arguments->sizes.size(); ++i) {
    const char* from = static_cast<const char*>(parameters[i]);
    std::vector<char> copy(from, from + arguments->sizes[i]);
    for (size_t at = 0; at + sizeof(void*) <= copy.size(); at += sizeof(void*)) {
      void* address;
      memcpy(&address, &copy[at], sizeof(address));
      address = alias(address);
      memcpy(&copy[at], &address, sizeof(address));
    }
    arguments->bytes.push_back(std::move(copy));
  }
  for (auto& bytes : arguments->bytes) arguments->pointers.push_back(bytes.data());
  const int device = stream->device;
  return submit(stream, {Kind::kKernel, function->name, [=, name = function->name] {
                           const FakecardLaunch launch = {name.c_str(),
                                                          device,
                                                          {grid.x, grid.y, grid.z},
                                                          {block.x, block.y, block.z},
                                                          shared_bytes,
                                                          arguments->pointers.data(),
                                                          arguments->sizes.data(),
                                                          static_cast<int>(arguments->sizes.size())};
                           return static_cast<Error>(kernel(&launch));
                         }});
}

}  // namespace fakecard

FAKECARD_API void fakecard_register_kernel(const char* name, FakecardKernel kernel) {
  const std::lock_guard<std::mutex> guard(fakecard::tables().lock);
  if (kernel)
    fakecard::tables().emulated[name] = kernel;
  else
    fakecard::tables().emulated.erase(name);
}

FAKECARD_API void* fakecard_alias(const void* device_pointer) { return fakecard::alias(device_pointer); }
