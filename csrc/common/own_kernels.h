// Which cards this package's kernels serve, and the ops that have one.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/core/Device.h>

#include <functional>
#include <string>
#include <vector>

namespace blackwell_compat {

// Whether ops compute with this package's kernels on a card. The first question about a card is answered by `judge`: PyTorch's
// kernels do where the wheel has them.
bool kernels_serve(c10::Device device);
void set_kernels_serve(c10::Device device, bool serve);
void set_judge(std::function<bool(int device)> judge);

// Computes a call of an op on a card: true, with the results on the stack. Or leaves the stack as it is: false.
using Attempt = std::function<bool(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack)>;

// An op that computes on a card by itself: over the fallback, this is called where kernels_chosen says so.
struct OwnKernel {
  // One of this package's ops
  OwnKernel(const std::string& op, c10::KernelFunction function);
  // One of PyTorch's, of which ours can do some calls. `attempt` is called below autograd; of an op that is composite for
  // autograd, where nothing has a gradient
  OwnKernel(const std::string& op, bool (*attempt)(torch::jit::Stack* stack));
  OwnKernel(const std::string& op, std::function<bool(const c10::OperatorHandle& op, torch::jit::Stack* stack)> attempt);
  // One of PyTorch's that it makes of other ops itself, in its kernel for `key`
  OwnKernel(const std::string& op, c10::DispatchKey key);
};
const Attempt* own_kernel(const std::string& op);
std::vector<std::string> own_kernels();  // the names of all these ops

// Whether a call may take this package's kernels although the fallback is enabled: mode kernel was asked for on the card of its
// tensors, all of which are there but for the CPU's of no dimensions and argument `except`, and the thread is not in a call of
// mode hybrid.
void choose_kernels(c10::Device device, bool chosen);
bool kernels_chosen(const torch::jit::Stack& stack, size_t count, int except = -1);
bool kernels_chosen(c10::Device device);

// `results` take the place of the arguments on the stack, of which an op has as many as its schema says.
void give(torch::jit::Stack* stack, size_t arguments, std::vector<at::Tensor> results);
void give(const c10::OperatorHandle& op, torch::jit::Stack* stack, std::vector<at::Tensor> results);

}  // namespace blackwell_compat
