// PyTorch's means over windows, of given sizes (avg_pool1d comes down to avg_pool2d) and adaptive ones, and their gradients.
#include <ATen/ATen.h>

#include "aten/pool.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

// From kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override on
std::vector<int64_t> read(c10::ArrayRef<IValue> given, const Tensor& self, size_t axes, PoolParams& p) {
  if (!given[5].isNone() && given[5].toInt() == 0) return {};
  p.counts_padding = given[4].toBool();
  p.divisor = given[5].isNone() ? 0 : static_cast<double>(given[5].toInt());
  return pooled_sizes(self, axes, {given[0], given[1], given[2], nullptr, given[3].toBool()}, p);
}

// (self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
template <size_t axes>
bool mean(Stack* stack) {
  const auto given = torch::jit::last(*stack, 7);
  const Tensor self = given[0].toTensor();
  PoolParams p{};
  const auto sizes = read(given.slice(1), self, axes, p);
  if (sizes.empty()) return false;
  const Tensor out = at::empty(sizes, self.options(), self.suggest_memory_format());
  launch_pool("mean", p, axes, self, out);
  give(stack, 7, {out});
  return true;
}

// (grad_output, self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
template <size_t axes>
bool mean_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 8);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor();
  PoolParams p{};
  if (grad.scalar_type() != self.scalar_type() || grad.sizes() != at::IntArrayRef(read(given.slice(2), self, axes, p))) {
    return false;
  }
  const Tensor out = at::empty(self.sizes(), self.options(), self.suggest_memory_format());
  launch_pool("mean_grad", p, axes, grad, out);
  give(stack, 8, {out});
  return true;
}

// (self, output_size)
template <size_t axes>
bool adaptive(Stack* stack) {
  const auto given = torch::jit::last(*stack, 2);
  const Tensor self = given[0].toTensor();
  PoolParams p{};
  const auto sizes = adaptive_sizes(self, axes, given[1].toIntVector(), p);
  if (sizes.empty()) return false;
  const Tensor out = at::empty(sizes, self.options(), axes == 2 ? self.suggest_memory_format() : at::MemoryFormat::Contiguous);
  launch_pool("mean", p, axes, self, out);
  give(stack, 2, {out});
  return true;
}

// (grad_output, self)
template <size_t axes>
bool adaptive_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 2);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor();
  PoolParams p{};
  if (grad.scalar_type() != self.scalar_type() || grad.dim() != self.dim() || self.dim() < static_cast<int64_t>(axes) ||
      grad.sizes() !=
          at::IntArrayRef(adaptive_sizes(self, axes, grad.sizes().slice(static_cast<size_t>(self.dim()) - axes), p))) {
    return false;
  }
  const Tensor out =
      at::empty(self.sizes(), self.options(), axes == 2 ? self.suggest_memory_format() : at::MemoryFormat::Contiguous);
  launch_pool("mean_grad", p, axes, grad, out);
  give(stack, 2, {out});
  return true;
}

const OwnKernel kernels[] = {{"aten::avg_pool2d", mean<2>},
                             {"aten::avg_pool3d", mean<3>},
                             {"aten::avg_pool2d_backward", mean_backward<2>},
                             {"aten::avg_pool3d_backward", mean_backward<3>},
                             {"aten::_adaptive_avg_pool2d", adaptive<2>},
                             {"aten::_adaptive_avg_pool3d", adaptive<3>},
                             {"aten::_adaptive_avg_pool2d_backward", adaptive_backward<2>},
                             {"aten::_adaptive_avg_pool3d_backward", adaptive_backward<3>}};

}  // namespace
}  // namespace blackwell_compat
