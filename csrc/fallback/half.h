// float16 and bfloat16 on a CPU that lacks the instructions or the kernels: compute in float32.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <atomic>

#include "fallback/facts.h"

namespace blackwell_compat::fallback {

// Calls the CPU's kernel of an op on host tensors. Matrix products in half precision run in float32 unless this CPU has the
// instructions; other ops do where the CPU has no kernel for the dtype, which is remembered in `lacks_half`.
void call_on_cpu(const c10::OperatorHandle& op, const OpFacts& facts, std::atomic<bool>& lacks_half, torch::jit::Stack* stack);

}  // namespace blackwell_compat::fallback
