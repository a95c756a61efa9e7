// The fallback itself: a boxed kernel that carries one call of an op to the CPU and its results back.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <atomic>
#include <vector>

#include "common/own_kernels.h"
#include "fallback/facts.h"
#include "fallback/original.h"

namespace blackwell_compat::fallback {

// What a call that falls back does besides: nothing, warn once per op with its price, or throw.
enum class Notice { kSilent, kWarn, kError };
void set_notice(Notice notice);

class BoxedKernel : public c10::OperatorKernel {
 public:
  // Overrides the kernel that the op has now.
  explicit BoxedKernel(const c10::OperatorHandle& op) : facts_(op), original_(op) {}
  // For an op that has none.
  explicit BoxedKernel(OpFacts facts) : facts_(std::move(facts)) {}
  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

 private:
  const OpFacts facts_;
  const Original original_;
  std::atomic<bool> told_ = false;
  std::atomic<bool> lacks_half_ = false;  // the CPU has no kernel of this op in half precision
};

// For an op that has a kernel of ours: that one where it was chosen (common/own_kernels.h) and takes the call, else the CPU's.
class ChosenKernel : public c10::OperatorKernel {
 public:
  ChosenKernel(const c10::OperatorHandle& op, const Attempt& own);
  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);
  // False, and nothing is done, where ours was not chosen or does not take the call.
  bool attempt(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

 private:
  void bring_indices(torch::jit::Stack* stack) const;

  const Attempt own_;
  BoxedKernel boxed_;
  const size_t arguments_;
  std::vector<size_t> written_, indices_;  // places of arguments
};

// The same for an op that is composite for autograd, above which it stands: else, and for gradients and subclasses, what it is
// made of.
class ChosenComposite : public c10::OperatorKernel {
 public:
  ChosenComposite(const c10::OperatorHandle& op, const Attempt& own)
      : own_(own),
        arguments_(op.schema().arguments().size()),
        on_host_(op.schema().argumentIndexWithName("batch_sizes").value_or(-1)) {}
  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

 private:
  const Attempt own_;
  const size_t arguments_;
  const int on_host_;  // the argument that PyTorch wants on the CPU, of packed sequences
};

// For ops that no BoxedKernel was made for: those without any kernel at the CUDA key.
void boxed_any(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

// For the collectives of torch.distributed, above their own kernels: NCCL and Gloo do them, also later and on other streams. At
// the key BackendSelect, which inference tensors have, too.
void boxed_collective(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

// Calls inside the fallback now, over all threads.
int64_t calls_in_flight();

}  // namespace blackwell_compat::fallback
