// Which cards this package's kernels serve, and the ops that have one.
#pragma once
#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/stack.h>
#include <c10/core/Device.h>

#include <functional>
#include <string>

namespace blackwell_compat {

// Whether ops compute with this package's kernels on a card. The first question about a card is answered by `judge`: PyTorch's
// kernels do where the wheel has them.
bool kernels_serve(c10::Device device);
void set_kernels_serve(c10::Device device, bool serve);
void set_judge(std::function<bool(int device)> judge);

// An op that computes on a card by itself: over the fallback, this is called where kernels_chosen says so.
struct OwnKernel {
  explicit OwnKernel(const std::string& op, c10::KernelFunction function);
};
const c10::KernelFunction* own_kernel(const std::string& op);

// Whether a call may take this package's kernels although the fallback is enabled: mode kernel was asked for on the card of its
// tensors, all of which are there, and the thread is not in a call of mode hybrid.
void choose_kernels(c10::Device device, bool chosen);
bool kernels_chosen(const torch::jit::Stack& stack, size_t count);

}  // namespace blackwell_compat
