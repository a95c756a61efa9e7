// What Python and the fake card call.
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "../../fakecard/src/fakecard_kernel.h"
#include "runner.h"

#define EMULATOR_API extern "C" __attribute__((visibility("default")))

namespace emulator {
namespace {

constexpr int kInvalidValue = 1, kLaunchFailed = 719;  // as CUresult
constexpr int kMaxDevices = 64;

const Kernel* kernels = nullptr;
FakecardKernel by_device[kMaxDevices];

std::mutex error_lock;
std::string last_error;

int failed(int code, const std::string& text) {
  const std::lock_guard<std::mutex> guard(error_lock);
  last_error = text;
  return code;
}

const Kernel* find(const char* name) {
  for (const Kernel* it = kernels; it; it = it->next)
    if (strcmp(it->name, name) == 0) return it;
  return nullptr;
}

std::string wrong_with(const Launch& launch, size_t parameter_bytes) {
  const Kernel& it = *launch.kernel;
  const unsigned threads = launch.block.x * launch.block.y * launch.block.z;
  if (!threads || threads > it.max_threads || threads > kMaxThreads)
    return printed("%s: block must have 1 to %u threads, got %u", it.name, it.max_threads, threads);
  if (!launch.grid.x || !launch.grid.y || !launch.grid.z || launch.grid.y > 65535 || launch.grid.z > 65535)
    return printed("%s: grid must be 1 to 2^31 - 1, 65535, 65535, got %u, %u, %u", it.name, launch.grid.x, launch.grid.y,
                   launch.grid.z);
  if (launch.shared_bytes > kMaxShared)
    return printed("%s: %zu bytes of shared memory, at most %zu", it.name, launch.shared_bytes, kMaxShared);
  if (parameter_bytes != it.parameter_bytes)
    return printed("%s: parameters must be %zu bytes, got %zu", it.name, it.parameter_bytes, parameter_bytes);
  return "";
}

int run(const Launch& launch, size_t parameter_bytes) {
  if (const std::string wrong = wrong_with(launch, parameter_bytes); !wrong.empty()) return failed(kInvalidValue, wrong);
  if (const std::string wrong = Runner::of_this_thread().run(launch); !wrong.empty()) return failed(kLaunchFailed, wrong);
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
                                 const void* parameters, size_t parameter_bytes, const emulator::Range* buffers, size_t count) {
  const emulator::Kernel* const kernel = emulator::find(name);
  if (!kernel) return emulator::failed(emulator::kInvalidValue, std::string("no kernel is named ") + name);
  return emulator::run({kernel,
                        {grid[0], grid[1], grid[2]},
                        {block[0], block[1], block[2]},
                        shared_bytes,
                        parameters,
                        {buffers, buffers + count},
                        true},
                       parameter_bytes);
}

// The text of the last launch that failed, on whatever OS thread; how long it is
EMULATOR_API size_t emulator_error(char* text, size_t bytes) {
  const std::lock_guard<std::mutex> guard(emulator::error_lock);
  snprintf(text, bytes, "%s", emulator::last_error.c_str());
  return emulator::last_error.size();
}

// A launch of the fake card by the library of this card's generation
EMULATOR_API int emulator_on_card(const FakecardLaunch* launch) {
  const emulator::Kernel* const kernel = emulator::find(launch->name);
  int error;
  if (!kernel) {
    error = emulator::failed(emulator::kInvalidValue, std::string("no kernel is named ") + launch->name);
  } else if (launch->parameter_count != 1) {
    error = emulator::failed(emulator::kInvalidValue,
                             emulator::printed("%s: takes 1 parameter, got %d", launch->name, launch->parameter_count));
  } else {
    const unsigned *const grid = launch->grid, *const block = launch->block;
    error = emulator::run({kernel,
                           {grid[0], grid[1], grid[2]},
                           {block[0], block[1], block[2]},
                           launch->shared_bytes,
                           launch->parameters[0],
                           {},
                           false},
                          launch->parameter_bytes[0]);
  }
  if (error) fprintf(stderr, "emulator: %s\n", emulator::last_error.c_str());
  return error;
}

EMULATOR_API void emulator_set_device(int device, FakecardKernel on_card) { emulator::by_device[device] = on_card; }

// What the fake card calls: the emulator of the launch's device
EMULATOR_API int emulator_dispatch(const FakecardLaunch* launch) { return emulator::by_device[launch->device](launch); }
