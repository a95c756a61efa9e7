// The device code that this build holds, as text (cmake/embed_kernels.py).
#pragma once
#include <vector>

namespace blackwell_compat::runtime {

// A line BC_ENTRY(name, ...) that makes an entry point of a source.
struct KernelEntry {
  const char* line;
  int source;
};

const std::vector<const char*>& kernel_sources();
const std::vector<KernelEntry>& kernel_entries();

}  // namespace blackwell_compat::runtime
