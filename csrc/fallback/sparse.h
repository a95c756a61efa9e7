// The fallback of sparse tensors (COO, CSR and the like): whole tensors move, since their parts are dense tensors.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include "fallback/facts.h"

namespace blackwell_compat::fallback {

class SparseKernel : public c10::OperatorKernel {
 public:
  // `host` is the key of the CPU's kernels: SparseCPU or SparseCsrCPU.
  SparseKernel(OpFacts facts, c10::DispatchKey host) : facts_(std::move(facts)), host_(host) {}
  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

 private:
  const OpFacts facts_;
  const c10::DispatchKey host_;
};

// Whether an op of sparse tensors works without kernels, by itself or by way of dense ops.
bool sparse_works_without_kernels(const c10::OperatorHandle& op);

}  // namespace blackwell_compat::fallback
