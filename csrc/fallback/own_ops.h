// Ops that the fallback answers itself: what only moves bytes, and a random op without a generator argument.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "fallback/boxed.h"

namespace blackwell_compat::fallback {

// Registers them at the CUDA key, which `library` is for.
void add_own_ops(torch::Library& library);

// Whether add_own_ops takes this op.
bool is_own_op(const c10::OperatorName& name);

}  // namespace blackwell_compat::fallback
