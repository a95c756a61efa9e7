// CPU kernels of ops that PyTorch has for CUDA alone, so that the fallback finds one to call.
#pragma once
#include <torch/library.h>

namespace blackwell_compat::fallback {

// Registers those that this torch knows and has no CPU kernel of; `library` is for aten's CPU key.
void add_cpu_kernels(torch::Library& library);

}  // namespace blackwell_compat::fallback
