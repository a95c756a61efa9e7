// Rigs where some cards have kernels in the wheel: for those, the kernel that an override hides is called.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <torch/version.h>

#include <cstdint>
#include <optional>
#include <vector>

// Earlier releases keep the kernels of an op private
#define BC_KEEPS_ORIGINALS (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13)

namespace blackwell_compat::fallback {

// The kernel of an op at the CUDA key as it is at construction, or none.
class Original {
 public:
  Original() = default;
  explicit Original(const c10::OperatorHandle& op);
  void call(const c10::OperatorHandle& op, torch::jit::Stack* stack) const;
  bool there() const;

 private:
#if BC_KEEPS_ORIGINALS
  std::optional<c10::SafeKernelFunction> kernel_;
#endif
};

// Indices of the cards that run PyTorch's kernels; throws where this torch keeps no originals and there are any.
void set_cards_with_kernels(const std::vector<int64_t>& indices);

// Whether a card runs PyTorch's kernels, which write past the fallback.
bool runs_kernels(c10::Device device);

// Whether every card among the arguments of a call (the last `count` values of `stack`) runs PyTorch's kernels.
bool only_cards_with_kernels(const torch::jit::Stack& stack, size_t count);

}  // namespace blackwell_compat::fallback
