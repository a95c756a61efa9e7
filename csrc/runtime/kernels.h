// This package's kernels by name: compiled for a card when they are first needed, loaded once.
#pragma once
#include <c10/core/Device.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/driver.h"

namespace blackwell_compat::runtime {

// All there are.
std::vector<std::string> kernel_names();

// Adds one to those that have a line in csrc/kernels: `line`, BC_ENTRY(name, ...), completes `source` ("pointwise"). `embedded`:
// fatbins of that source have it, too.
void add_kernel(const std::string& source, const std::string& line, bool embedded);

// The text that makes one of them.
std::string kernel_source(const std::string& name);

// What a compiler that makes code for `architecture` ("sm_120") is told about every one of them, for a card whose host reckons
// with tiles for `tiles_for` (1200).
std::vector<std::string> kernel_options(const std::string& architecture, int tiles_for);

// Compiles kernels for a card, several at a time, and loads them.
void load_kernels(const std::vector<std::string>& names, c10::Device device);

struct Grid {
  int64_t blocks;
  int threads;
  int shared_bytes;
};

// Gives a kernel to PyTorch's current stream of a card. `params` is its only parameter. Throws RuntimeError where it has to be
// loaded first while a CUDA graph is captured.
void launch(std::string_view name, c10::Device device, const Grid& grid, const void* params);

// What a launch throws while kernels are gathered.
struct NotLoaded : std::exception {
  const char* what() const noexcept override { return "kernels: one that is not loaded was launched while they are gathered"; }
};

// While on for any card, a launch of a kernel that is not loaded there throws NotLoaded and is noted.
void gather_kernels(bool on);
bool gathers_kernels();
// The names noted for a card, which are forgotten then.
std::vector<std::string> gathered_kernels(c10::Device device);

// Called with the name of a kernel when a launch has to compile it, and with an empty one when that is done.
using CompileNotice = std::function<void(const std::string& name, int device)>;
void set_compile_notice(CompileNotice notice);

// Called where a card has no memory left for a kernel, before a second try: gives back what PyTorch's allocator keeps for later.
using MemoryRelease = std::function<void()>;
void set_memory_release(MemoryRelease release);

// What every launch calls first: tensors that it reads may have their newest values elsewhere.
void set_before_launch(void (*call)());

struct Loaded;

// The same for who launches it often: its name is looked up once for each card.
class Kernel {
 public:
  explicit Kernel(std::string name) : name_(std::move(name)) {}
  void launch(c10::Device device, const Grid& grid, const void* params);

 private:
  const std::string name_;
  std::array<std::atomic<Loaded*>, kMostDevices> loaded_{};
};

}  // namespace blackwell_compat::runtime
