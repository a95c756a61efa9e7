// The device code that this build holds, as text (cmake/embed_kernels.py).
#pragma once
#include <vector>

namespace blackwell_compat::runtime {

// A line BC_ENTRY(name, ...) that makes an entry point of a source.
struct KernelEntry {
  const char* line;
  int source;
};

struct KernelSource {
  const char* name;  // "gemm"
  const char* text;
};

const std::vector<KernelSource>& kernel_sources();
const std::vector<KernelEntry>& kernel_entries();

}  // namespace blackwell_compat::runtime
