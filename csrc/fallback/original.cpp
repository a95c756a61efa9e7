// A mask of cards, and the hidden kernels.
#include "fallback/original.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <atomic>

#include "fallback/values.h"

namespace blackwell_compat::fallback {
namespace {

std::atomic<uint64_t> cards_with_kernels = 0;  // a bit for each index

uint64_t bit(c10::Device device) { return uint64_t{1} << device.index(); }

}  // namespace

#if BC_KEEPS_ORIGINALS
Original::Original(const c10::OperatorHandle& op) {
  if (op.hasComputedKernelForDispatchKey(c10::DispatchKey::CUDA)) {
    kernel_ = op.getComputedKernelForDispatchKey(c10::DispatchKey::CUDA);
  }
}

void Original::call(const c10::OperatorHandle& op, torch::jit::Stack* stack) const {
  kernel_->callBoxed(op, c10::DispatchKeySet(c10::DispatchKey::CUDA), stack);
}

bool Original::there() const { return kernel_.has_value(); }
#else
Original::Original(const c10::OperatorHandle&) {}
void Original::call(const c10::OperatorHandle&, torch::jit::Stack*) const {}
bool Original::there() const { return false; }
#endif

void set_cards_with_kernels(const std::vector<int64_t>& indices) {
  TORCH_CHECK(indices.empty() || BC_KEEPS_ORIGINALS, "enable: PyTorch's own kernels run on another visible card, and torch ",
              TORCH_VERSION, " does not let them be called (2.13 and newer do); hide that card with CUDA_VISIBLE_DEVICES");
  uint64_t mask = 0;
  for (const int64_t index : indices) mask |= uint64_t{1} << index;
  cards_with_kernels = mask;
}

bool runs_kernels(c10::Device device) { return (cards_with_kernels.load(std::memory_order_relaxed) & bit(device)) != 0; }

bool only_cards_with_kernels(const torch::jit::Stack& stack, size_t count) {
  const uint64_t mask = cards_with_kernels.load(std::memory_order_relaxed);
  if (mask == 0) return false;
  uint64_t used = 0;
  for (size_t i = stack.size() - count; i < stack.size(); ++i) {
    each_tensor(stack[i], [&](const at::Tensor& tensor) {
      if (tensor.defined() && tensor.is_cuda()) used |= bit(tensor.device());
    });
    if (stack[i].isDevice() && stack[i].toDevice().is_cuda() && stack[i].toDevice().has_index()) used |= bit(stack[i].toDevice());
  }
  if (used == 0) used = bit(c10::impl::VirtualGuardImpl(c10::kCUDA).getDevice());
  return (used & ~mask) == 0;
}

}  // namespace blackwell_compat::fallback
