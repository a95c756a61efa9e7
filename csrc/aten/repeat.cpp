// repeat_interleave, isin and the gradient of unfold: made of other ops that have kernels.
#include <ATen/ATen.h>

#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

constexpr int64_t kMostCompared = 1 << 24;  // pairs that isin compares one by one

// Index j as often as repeats[j] says: the sum of the steps at the ends of all before
bool repeat_interleave(const c10::OperatorHandle& op, Stack* stack) {
  const auto given = torch::jit::last(*stack, 2);
  const Tensor repeats = given[0].toTensor();
  const bool indices = repeats.scalar_type() == at::kLong || repeats.scalar_type() == at::kInt;
  if (repeats.dim() != 1 || repeats.numel() == 0 || !indices) return false;
  const Tensor ends = repeats.cumsum(0, repeats.scalar_type());
  const int64_t total = given[1].isNone() ? ends[-1].item<int64_t>() : given[1].toInt();
  if (total < 0) return false;
  const Tensor before = ends.narrow(0, 0, ends.numel() - 1);
  const Tensor steps = at::zeros({total + 1}, repeats.options()).index_add_(0, before, at::ones_like(before));
  give(op, stack, {steps.narrow(0, 0, total).cumsum(0, repeats.scalar_type())});
  return true;
}

bool isin(const c10::OperatorHandle& op, Stack* stack) {
  const auto given = torch::jit::last(*stack, 4);
  const Tensor elements = given[0].toTensor(), of = given[1].toTensor();
  if (!elements.is_cuda() || !of.is_cuda() || elements.numel() * of.numel() > kMostCompared) return false;
  const Tensor found = elements.unsqueeze(-1).eq(of.flatten()).any(-1);
  give(op, stack, {given[3].toBool() ? found.logical_not() : found});
  return true;
}

bool unfold_backward(const c10::OperatorHandle& op, Stack* stack) {
  const auto given = torch::jit::last(*stack, 5);
  const Tensor grad = given[0].toTensor();
  const auto sizes = given[1].toDimVector();
  const int64_t dim = at::maybe_wrap_dim(given[2].toInt(), static_cast<int64_t>(sizes.size())), size = given[3].toInt(),
                step = given[4].toInt();
  if (sizes.empty()) {
    give(op, stack, {grad.sum()});
    return true;
  }
  const Tensor result = at::zeros(sizes, grad.options());
  for (int64_t k = 0; k < size; ++k) {
    const int64_t last = k + (grad.size(dim) - 1) * step + 1;
    result.slice(dim, k, last, step).add_(grad.select(-1, k));
  }
  give(op, stack, {result});
  return true;
}

const OwnKernel repeated("aten::repeat_interleave.Tensor", &repeat_interleave);
const OwnKernel is_in("aten::isin.Tensor_Tensor", &isin);
const OwnKernel folded("aten::unfold_backward", &unfold_backward);

}  // namespace
}  // namespace blackwell_compat
