// glu and its gradient: pointwise kernels over the two halves.
#include <ATen/ATen.h>
#include <ATen/WrapDimUtils.h>
#include <c10/core/DeviceGuard.h>

#include "aten/pointwise.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

// Undefined where PyTorch would take issue
std::pair<Tensor, Tensor> halves(const Tensor& self, int64_t dim) {
  if (self.dim() == 0 || dim < -self.dim() || dim >= self.dim() || self.size(dim) % 2 != 0) return {};
  const int64_t half = self.size(dim) / 2;
  return {self.narrow(dim, 0, half), self.narrow(dim, half, half)};
}

bool glu(Stack* stack) {
  const auto given = torch::jit::last(*stack, 2);
  const Tensor self = given[0].toTensor();
  const auto [first, second] = halves(self, given[1].toInt());
  if (!first.defined() || self.layout() != c10::kStrided) return false;
  static const PointwiseKernels& kernels = pointwise_kernels("glu");
  Tensor out;
  auto iter = at::TensorIterator::binary_op(out, first, second);
  const c10::DeviceGuard guard(self.device());
  if (!compute_pointwise(iter, kernels, self.scalar_type())) return false;
  give(stack, 2, {Tensor(iter.output_base(0))});
  return true;
}

// (grad_output, self, dim)
bool glu_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 3);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor();
  const int64_t dim = given[2].toInt();
  const auto [first, second] = halves(self, dim);
  if (!first.defined() || self.layout() != c10::kStrided || grad.sizes() != first.sizes() ||
      grad.scalar_type() != self.scalar_type()) {
    return false;
  }
  static const PointwiseKernels &kernels = pointwise_kernels("glu"), &of_second = pointwise_kernels("glu_gate_backward");
  const Tensor result = at::empty(self.sizes(), self.options());
  const auto [to_first, to_second] = halves(result, dim);
  const c10::DeviceGuard guard(self.device());
  auto at_first = at::TensorIteratorConfig().add_output(to_first).add_const_input(grad).add_const_input(second).build();
  auto at_second = at::TensorIteratorConfig()
                       .add_output(to_second)
                       .add_const_input(grad)
                       .add_const_input(first)
                       .add_const_input(second)
                       .build();
  if (!compute_pointwise(at_first, kernels, self.scalar_type()) || !compute_pointwise(at_second, of_second, self.scalar_type())) {
    return false;
  }
  give(stack, 3, {result});
  return true;
}

const OwnKernel forward("aten::glu", &glu), backward("aten::glu_backward", &glu_backward);

}  // namespace
}  // namespace blackwell_compat
