// What Python and the fake card call.
#include <cstdio>
#include <cstring>
#include <mutex>

#include "../../fakecard/src/fakecard_kernel.h"
#include "runner.h"

#define EMULATOR_API extern "C" __attribute__((visibility("default")))

namespace emulator {
namespace {

constexpr int kInvalidValue = 1, kLaunchFailed = 719;  // as CUresult
constexpr int kMaxDevices = 64;

const Kernel* kernels = nullptr;

// emulator_on_card of the library that is for each device
using OnCard = int (*)(const FakecardLaunch*, char* error, size_t error_bytes);
OnCard by_device[kMaxDevices];

std::mutex error_lock;
std::string last_error;

dim3 size_of(const unsigned* size) { return {size[0], size[1], size[2]}; }

std::string wrong_with(const Launch& launch, size_t parameter_bytes) {
  const Kernel& it = *launch.kernel;
  const dim3& grid = launch.grid;
  const size_t threads = size_t{launch.block.x} * launch.block.y * launch.block.z;
  if (!threads || threads > it.max_threads || threads > kMaxThreads)
    return printed("%s: block must have 1 to %u threads, got %zu", it.name, it.max_threads, threads);
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return printed("%s: grid must be 1 to 2^31 - 1, 65535, 65535, got %u, %u, %u", it.name, grid.x, grid.y, grid.z);
  if (launch.shared_bytes > kMaxShared)
    return printed("%s: %zu bytes of shared memory, at most %zu", it.name, launch.shared_bytes, kMaxShared);
  if (parameter_bytes != it.parameter_bytes)
    return printed("%s: parameters must be %zu bytes, got %zu", it.name, it.parameter_bytes, parameter_bytes);
  return "";
}

// A CUresult, and what went wrong in `error`
int run(const char* name, Launch launch, size_t parameter_bytes, char* error, size_t error_bytes) {
  const auto failed = [&](int code, const std::string& text) {
    snprintf(error, error_bytes, "%s", text.c_str());
    return code;
  };
  launch.kernel = kernels;
  while (launch.kernel && strcmp(launch.kernel->name, name) != 0) launch.kernel = launch.kernel->next;
  if (!launch.kernel) return failed(kInvalidValue, std::string("no kernel is named ") + name);
  if (const std::string text = wrong_with(launch, parameter_bytes); !text.empty()) return failed(kInvalidValue, text);
  if (const std::string text = Runner::of_this_thread().run(launch); !text.empty()) return failed(kLaunchFailed, text);
  return 0;
}

}  // namespace

Kernel::Kernel(const char* name_, unsigned max_threads_, size_t parameter_bytes_, void (*run_)(const void*))
    : name(name_), max_threads(max_threads_), parameter_bytes(parameter_bytes_), run(run_), next(kernels) {
  kernels = this;
}

}  // namespace emulator

// A kernel's name, a line each
EMULATOR_API const char* emulator_kernels() {
  static const std::string names = [] {
    std::string all;
    for (const emulator::Kernel* it = emulator::kernels; it; it = it->next) all += std::string(it->name) + "\n";
    return all;
  }();
  return names.c_str();
}

EMULATOR_API int emulator_launch(const char* name, const unsigned* grid, const unsigned* block, size_t shared_bytes,
                                 const void* parameters, size_t parameter_bytes, const emulator::Range* buffers, size_t count,
                                 char* error, size_t error_bytes) {
  const std::vector<emulator::Range> all(buffers, buffers + count);
  return emulator::run(name, {nullptr, emulator::size_of(grid), emulator::size_of(block), shared_bytes, parameters, all, true},
                       parameter_bytes, error, error_bytes);
}

EMULATOR_API int emulator_on_card(const FakecardLaunch* launch, char* error, size_t error_bytes) {
  if (launch->parameter_count != 1) {
    snprintf(error, error_bytes, "%s: takes 1 parameter, got %d", launch->name, launch->parameter_count);
    return emulator::kInvalidValue;
  }
  const dim3 grid = emulator::size_of(launch->grid), block = emulator::size_of(launch->block);
  return emulator::run(launch->name, {nullptr, grid, block, launch->shared_bytes, launch->parameters[0], {}, false},
                       launch->parameter_bytes[0], error, error_bytes);
}

EMULATOR_API void emulator_set_device(int device, emulator::OnCard on_card) { emulator::by_device[device] = on_card; }

// What the fake card calls, on the stream's thread
EMULATOR_API int emulator_dispatch(const FakecardLaunch* launch) {
  char text[4096];
  const int error = emulator::by_device[launch->device](launch, text, sizeof(text));
  if (!error) return 0;
  fprintf(stderr, "emulator: %s\n", text);
  const std::lock_guard<std::mutex> guard(emulator::error_lock);
  emulator::last_error = text;
  return error;
}

// The text of the last launch through emulator_dispatch that failed
EMULATOR_API void emulator_last_error(char* text, size_t bytes) {
  const std::lock_guard<std::mutex> guard(emulator::error_lock);
  snprintf(text, bytes, "%s", emulator::last_error.c_str());
}
