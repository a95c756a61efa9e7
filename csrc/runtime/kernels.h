// This package's kernels by name: compiled for a card when they are first needed, loaded once.
#pragma once
#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace blackwell_compat::runtime {

// All there are.
std::vector<std::string> kernel_names();

// The text that makes one of them.
std::string kernel_source(const std::string& name);

// What a compiler is told about every one of them, beside the architecture.
const std::vector<std::string>& kernel_options();

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

}  // namespace blackwell_compat::runtime
