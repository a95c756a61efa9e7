// PyTorch's maxima over windows with their places, of given sizes (max_pool1d comes down to max_pool2d) and adaptive ones, and
// their gradients.
#include <ATen/ATen.h>

#include "aten/pool.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

// From kernel_size, stride, padding, dilation, ceil_mode on
std::vector<int64_t> read(c10::ArrayRef<IValue> given, const Tensor& self, size_t axes, PoolParams& p) {
  return pooled_sizes(self, axes, {given[0], given[1], given[2], &given[3], given[4].toBool()}, p);
}

void give_maxima(Stack* stack, size_t arguments, PoolParams& p, size_t axes, const Tensor& self, at::IntArrayRef sizes,
                 at::MemoryFormat format) {
  const Tensor out = at::empty(sizes, self.options(), format), places = at::empty(sizes, self.options().dtype(at::kLong), format);
  launch_pool("max", p, axes, self, out, places);
  give(stack, arguments, {out, places});
}

void give_gradient(Stack* stack, size_t arguments, PoolParams& p, size_t axes, Tensor grad, const Tensor& self, Tensor places) {
  if (grad.strides() != places.strides()) grad = grad.contiguous(), places = places.contiguous();
  const Tensor out = at::empty(self.sizes(), self.options(), self.suggest_memory_format());
  launch_pool("max_grad", p, axes, grad, out, places);
  give(stack, arguments, {out});
}

// (self, kernel_size, stride, padding, dilation, ceil_mode)
template <size_t axes>
bool maxima(Stack* stack) {
  const auto given = torch::jit::last(*stack, 6);
  const Tensor self = given[0].toTensor();
  PoolParams p{};
  const auto sizes = read(given.slice(1), self, axes, p);
  if (sizes.empty()) return false;
  give_maxima(stack, 6, p, axes, self, sizes, self.suggest_memory_format());
  return true;
}

bool suits(const Tensor& grad, const Tensor& self, const Tensor& places, at::IntArrayRef sizes) {
  return grad.scalar_type() == self.scalar_type() && places.scalar_type() == at::kLong && !sizes.empty() &&
         grad.sizes() == sizes && places.sizes() == sizes && grad.layout() == c10::kStrided;
}

// (grad_output, self, kernel_size, stride, padding, dilation, ceil_mode, indices)
template <size_t axes>
bool maxima_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 8);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor(), places = given[7].toTensor();
  PoolParams p{};
  if (!suits(grad, self, places, read(given.slice(2), self, axes, p))) return false;
  give_gradient(stack, 8, p, axes, grad, self, places);
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
  give_maxima(stack, 2, p, axes, self, sizes, adaptive_format(self, axes));
  return true;
}

// (grad_output, self, indices)
template <size_t axes>
bool adaptive_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 3);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor(), places = given[2].toTensor();
  PoolParams p{};
  if (!suits(grad, self, places, adaptive_sizes_of(grad, self, axes, p))) return false;
  give_gradient(stack, 3, p, axes, grad, self, places);
  return true;
}

const OwnKernel kernels[] = {{"aten::max_pool2d_with_indices", maxima<2>},
                             {"aten::max_pool3d_with_indices", maxima<3>},
                             {"aten::max_pool2d_with_indices_backward", maxima_backward<2>},
                             {"aten::max_pool3d_with_indices_backward", maxima_backward<3>},
                             {"aten::adaptive_max_pool2d", adaptive<2>},
                             {"aten::adaptive_max_pool3d", adaptive<3>},
                             {"aten::adaptive_max_pool2d_backward", adaptive_backward<2>},
                             {"aten::adaptive_max_pool3d_backward", adaptive_backward<3>}};

}  // namespace
}  // namespace blackwell_compat
