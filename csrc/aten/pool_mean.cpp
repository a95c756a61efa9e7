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

bool give_mean(Stack* stack, size_t arguments, PoolParams& p, size_t axes, const Tensor& self, at::IntArrayRef sizes,
               at::MemoryFormat format) {
  if (sizes.empty()) return false;
  const Tensor out = at::empty(sizes, self.options(), format);
  launch_pool("mean", p, axes, self, out);
  give(stack, arguments, {out});
  return true;
}

// `sizes`: those that the gradient has to have
bool give_gradient(Stack* stack, size_t arguments, PoolParams& p, size_t axes, const Tensor& grad, const Tensor& self,
                   at::IntArrayRef sizes, at::MemoryFormat format) {
  if (sizes.empty() || grad.scalar_type() != self.scalar_type() || grad.sizes() != sizes) return false;
  const Tensor out = at::empty(self.sizes(), self.options(), format);
  launch_pool("mean_grad", p, axes, grad, out);
  give(stack, arguments, {out});
  return true;
}

// (self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
template <size_t axes>
bool mean(Stack* stack) {
  const auto given = torch::jit::last(*stack, 7);
  const Tensor self = given[0].toTensor();
  PoolParams p{};
  const auto sizes = read(given.slice(1), self, axes, p);
  return give_mean(stack, 7, p, axes, self, sizes, self.suggest_memory_format());
}

// (grad_output, self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
template <size_t axes>
bool mean_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 8);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor();
  PoolParams p{};
  const auto sizes = read(given.slice(2), self, axes, p);
  return give_gradient(stack, 8, p, axes, grad, self, sizes, self.suggest_memory_format());
}

// (self, output_size)
template <size_t axes>
bool adaptive(Stack* stack) {
  const auto given = torch::jit::last(*stack, 2);
  const Tensor self = given[0].toTensor();
  PoolParams p{};
  const auto sizes = adaptive_sizes(self, axes, given[1].toIntVector(), p);
  return give_mean(stack, 2, p, axes, self, sizes, adaptive_format(self, axes));
}

// (grad_output, self)
template <size_t axes>
bool adaptive_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 2);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor();
  PoolParams p{};
  const auto sizes = adaptive_sizes_of(grad, self, axes, p);
  return give_gradient(stack, 2, p, axes, grad, self, sizes, adaptive_format(self, axes));
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
