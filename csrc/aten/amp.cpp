// What torch.amp.GradScaler calls, without a look at its numbers on the host.
#include <ATen/ATen.h>

#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

Tensor is_infinite_or_nan(const Tensor& tensor) { return tensor.sub(tensor).ne(0); }

// (grads, found_inf, inv_scale)
bool unscale(Stack* stack) {
  const auto given = torch::jit::last(*stack, 3);
  const Tensor found = given[1].toTensor(), factor = given[2].toTensor();
  if (found.numel() != 1 || factor.numel() != 1 || !found.is_cuda() || !factor.is_cuda()) return false;
  const auto grads = given[0].toTensorVector();
  for (const Tensor& grad : grads) {
    if (!grad.is_cuda() || grad.device() != found.device() || !grad.is_floating_point() || grad.layout() != c10::kStrided)
      return false;
  }
  for (const Tensor& grad : grads) {
    found.copy_(at::maximum(found, is_infinite_or_nan(grad).any().to(found.scalar_type()).view(found.sizes())));
    grad.mul_(factor.view(at::IntArrayRef()));
  }
  torch::jit::drop(*stack, 3);
  return true;
}

// (scale, growth_tracker, found_inf, growth_factor, backoff_factor, growth_interval)
bool update_scale(Stack* stack) {
  const auto given = torch::jit::last(*stack, 6);
  const Tensor scale = given[0].toTensor(), tracker = given[1].toTensor(), found_inf = given[2].toTensor();
  for (const Tensor& one : {scale, tracker, found_inf}) {
    if (one.numel() != 1 || !one.is_cuda()) return false;
  }
  const Tensor found = found_inf.view(scale.sizes()).ne(0), steps = tracker.view(scale.sizes()).add(1),
               due = steps.eq(given[5].toInt()), grown = scale.mul(given[3].toDouble());
  const Tensor grows = due.logical_and(is_infinite_or_nan(grown).logical_not());
  scale.copy_(at::where(found, scale.mul(given[4].toDouble()), at::where(grows, grown, scale)));
  tracker.copy_(steps.masked_fill(found.logical_or(due), 0).view(tracker.sizes()));
  give(stack, 6, {scale});
  return true;
}

const OwnKernel unscaled("aten::_amp_foreach_non_finite_check_and_unscale_", &unscale),
    updated("aten::_amp_update_scale_", &update_scale);

}  // namespace
}  // namespace blackwell_compat
