// Losses of one value from one of the input and one of the target, made of ops that have kernels.
#include <ATen/ATen.h>
#include <ATen/core/Reduction.h>

#include <limits>

#include "aten/wide.h"
#include "common/own_kernels.h"
#include "common/pass_on.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

bool same_floats(std::initializer_list<Tensor> tensors) {
  const Tensor& first = *tensors.begin();
  for (const Tensor& tensor : tensors) {
    if (tensor.defined() && (!tensor.is_floating_point() || tensor.scalar_type() != first.scalar_type())) return false;
  }
  return true;
}

Tensor reduced(const Tensor& values, const IValue& reduction, at::ScalarType dtype) {
  switch (reduction.toInt()) {
    case at::Reduction::Mean:
      return values.mean().to(dtype);
    case at::Reduction::Sum:
      return values.sum().to(dtype);
    default:
      return values.to(dtype);
  }
}

// `grad` times the slope at each of the values.
Tensor spread(const Tensor& grad, const Tensor& slopes, const IValue& reduction, at::ScalarType dtype) {
  Tensor result = slopes.mul(wide(grad));
  if (reduction.toInt() == at::Reduction::Mean) result.div_(slopes.numel());
  return result.to(dtype);
}

using OfDifference = Tensor (*)(const Tensor& difference, double parameter);

// (self, target, reduction[, parameter])
template <OfDifference values, bool parameter>
bool loss(Stack* stack) {
  const size_t n = parameter ? 4 : 3;
  const auto given = torch::jit::last(*stack, n);
  const Tensor self = given[0].toTensor(), target = given[1].toTensor();
  const double limit = parameter ? given[3].toDouble() : 0;
  if (!same_floats({self, target}) || (parameter && limit <= 0)) return false;
  give(stack, n, {reduced(values(wide(self).sub(target), limit), given[2], self.scalar_type())});
  return true;
}

// (grad_output, self, target, reduction[, parameter])
template <OfDifference slopes, bool parameter>
bool loss_grad(Stack* stack) {
  const size_t n = parameter ? 5 : 4;
  const auto given = torch::jit::last(*stack, n);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor(), target = given[2].toTensor();
  const double limit = parameter ? given[4].toDouble() : 0;
  if (!same_floats({self, target, grad}) || (parameter && limit <= 0)) return false;
  give(stack, n, {spread(grad, slopes(wide(self).sub(target), limit), given[3], self.scalar_type())});
  return true;
}

Tensor squares(const Tensor& difference, double) { return difference.mul(difference); }
Tensor slopes_of_squares(const Tensor& difference, double) { return difference.mul(2); }

Tensor huber(const Tensor& difference, double delta) {
  const Tensor size = difference.abs();
  return at::where(size.lt(delta), size.mul(size).mul_(0.5), size.sub(0.5 * delta).mul_(delta));
}
Tensor slopes_of_huber(const Tensor& difference, double delta) { return difference.clamp(-delta, delta); }

Tensor smooth(const Tensor& difference, double beta) { return huber(difference, beta).div_(beta); }
Tensor slopes_of_smooth(const Tensor& difference, double beta) { return slopes_of_huber(difference, beta).div_(beta); }

Tensor is_probability(const Tensor& values) { return values.ge(0).logical_and_(values.le(1)); }

// (self, target, weight, reduction). What is no probability, at which the CPU raises and PyTorch's kernel stops the card, is NaN
bool cross_entropy(Stack* stack) {
  const auto given = torch::jit::last(*stack, 4);
  const Tensor self = given[0].toTensor(), target = given[1].toTensor(), weight = optional_tensor(given[2]);
  if (!same_floats({self, target, weight})) return false;
  constexpr double kLeast = -100;  // of a logarithm
  const Tensor x = wide(self), t = wide(target);
  Tensor values = x.neg().log1p_().clamp_min_(kLeast).mul(t.sub(1)).sub_(x.log().clamp_min_(kLeast).mul(t));
  values.masked_fill_(is_probability(x).logical_and(is_probability(t)).logical_not_(), std::numeric_limits<double>::quiet_NaN());
  if (weight.defined()) values = values.mul(weight);
  give(stack, 4, {reduced(values, given[3], self.scalar_type())});
  return true;
}

// (grad_output, self, target, weight, reduction)
bool cross_entropy_grad(Stack* stack) {
  const auto given = torch::jit::last(*stack, 5);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor(), target = given[2].toTensor(),
               weight = optional_tensor(given[3]);
  if (!same_floats({self, target, grad, weight})) return false;
  const Tensor x = wide(self);
  Tensor slopes = x.sub(target).div_(x.neg().add_(1).mul_(x).clamp_min_(1e-12));
  if (weight.defined()) slopes = slopes.mul(weight);
  give(stack, 5, {spread(grad, slopes, given[4], self.scalar_type())});
  return true;
}

const OwnKernel added[] = {
    {"aten::mse_loss", &loss<&squares, false>},     {"aten::mse_loss_backward", &loss_grad<&slopes_of_squares, false>},
    {"aten::huber_loss", &loss<&huber, true>},      {"aten::huber_loss_backward", &loss_grad<&slopes_of_huber, true>},
    {"aten::smooth_l1_loss", &loss<&smooth, true>}, {"aten::smooth_l1_loss_backward", &loss_grad<&slopes_of_smooth, true>},
    {"aten::binary_cross_entropy", &cross_entropy}, {"aten::binary_cross_entropy_backward", &cross_entropy_grad}};

}  // namespace
}  // namespace blackwell_compat
