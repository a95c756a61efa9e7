// The fallback of sparse (COO, CSR and the like), nested and quantized tensors: whole tensors move, since Tensor.to knows
// their parts.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include "fallback/facts.h"

namespace blackwell_compat::fallback {

class LayoutKernel : public c10::OperatorKernel {
 public:
  // `host` is the key of the CPU's kernels, such as SparseCPU.
  LayoutKernel(OpFacts facts, c10::DispatchKey host) : facts_(std::move(facts)), host_(host) {}
  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

 private:
  const OpFacts facts_;
  const c10::DispatchKey host_;
};

// Whether an op of the tensors of key `card` works without kernels, by itself or by way of dense ops.
bool layout_works_without_kernels(const c10::OperatorHandle& op, c10::DispatchKey card);

}  // namespace blackwell_compat::fallback
