// The fused steps of torch.optim, tensor by tensor, without a look at the card's numbers on the host.
#include <ATen/ATen.h>

#include "aten/wide.h"
#include "common/own_kernels.h"
#include "common/pass_on.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

using Tensors = std::vector<Tensor>;

// The learning rate: a number or a tensor of one element.
Tensor times(const Tensor& tensor, const IValue& rate) {
  if (!rate.isTensor()) return tensor.mul(rate.toScalar());
  return tensor.mul(rate.toTensor().reshape(at::IntArrayRef()).to(tensor.scalar_type()));
}

// What all steps share: what grads were multiplied by, and whether one of them was not finite, in which case nothing changes.
struct Step {
  Tensor scale, skip;  // undefined, or of no dimensions

  Step(const IValue& grad_scale, const IValue& found_inf) : scale(optional_tensor(grad_scale)) {
    const Tensor found = optional_tensor(found_inf);
    if (scale.defined()) scale = scale.reshape(at::IntArrayRef());
    if (found.defined()) skip = found.reshape(at::IntArrayRef()).ne(0);
  }

  void write(const Tensor& to, const Tensor& computed) const {
    to.copy_(skip.defined() ? at::where(skip, to, computed.to(to.scalar_type())) : computed);
  }

  // Unscaled, as it stays, and in the direction of the step.
  Tensor direction(const Tensor& grad, bool maximize) const {
    Tensor result = wide(grad);
    if (scale.defined()) {
      result = result.div(scale);
      write(grad, result);
    }
    return maximize ? result.neg() : result;
  }
};

bool is_one_on_card(const IValue& value, c10::Device card) {
  const Tensor one = optional_tensor(value);
  return !one.defined() || (one.device() == card && one.numel() == 1);
}

// Lists of equally many dense tensors of floating point on the card of the first and with its sizes, or of `counts`, one element
// each; the rate and `ones` may lie with them.
bool is_taken(const std::vector<Tensors>& lists, const Tensors* counts, const IValue& rate, std::initializer_list<IValue> ones) {
  const Tensors& parameters = lists.front();
  if (parameters.empty() || !parameters.front().is_cuda()) return false;
  const c10::Device card = parameters.front().device();
  for (const Tensors& list : lists) {
    if (list.size() != parameters.size()) return false;
    for (size_t i = 0; i < list.size(); ++i) {
      if (list[i].device() != card || list[i].layout() != c10::kStrided || !list[i].is_floating_point()) return false;
      if (&list == counts ? list[i].numel() != 1 : list[i].sizes() != parameters[i].sizes()) return false;
    }
  }
  for (const IValue& one : ones) {
    if (!is_one_on_card(one, card)) return false;
  }
  return !rate.isTensor() || (rate.toTensor().numel() == 1 && rate.toTensor().is_floating_point());
}

// 1 - beta ** step, in float64 as PyTorch's kernels compute it
Tensor bias_correction(double beta, const Tensor& step) {
  return at::pow(beta, step.reshape(at::IntArrayRef()).to(at::kDouble)).neg().add(1);
}

// (self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, lr, beta1, beta2, weight_decay, eps, amsgrad, maximize,
// grad_scale, found_inf)
bool adam(Stack* stack, bool decoupled) {
  const auto given = torch::jit::last(*stack, 15);
  std::vector<Tensors> lists;
  const bool amsgrad = given[11].toBool(), maximize = given[12].toBool();
  for (const size_t i : {0, 1, 2, 3, 4, 5}) {
    if (i != 4 || amsgrad) lists.push_back(given[i].toTensorVector());
  }
  const IValue &rate = given[6], &grad_scale = given[13], &found_inf = given[14];
  if (!is_taken(lists, &lists.back(), rate, {grad_scale, found_inf})) return false;
  const double beta1 = given[7].toDouble(), beta2 = given[8].toDouble(), decay = given[9].toDouble(), eps = given[10].toDouble();
  const Step step(grad_scale, found_inf);
  for (size_t i = 0; i < lists[0].size(); ++i) {
    const Tensor &parameter = lists[0][i], &mean = lists[2][i], &square = lists[3][i], &count = lists.back()[i];
    Tensor grad = step.direction(lists[1][i], maximize), value = wide(parameter);
    if (decay != 0 && decoupled) value = value.sub(times(value, rate), decay);
    if (decay != 0 && !decoupled) grad = grad.add(value, decay);
    const Tensor new_mean = wide(mean).lerp(grad, 1 - beta1);
    const Tensor new_square = wide(square).mul(beta2).addcmul_(grad, grad, 1 - beta2);
    Tensor largest = new_square;
    if (amsgrad) {
      largest = at::maximum(wide(lists[4][i]), new_square);
      step.write(lists[4][i], largest);
    }
    const Tensor correction = bias_correction(beta1, count).to(value.scalar_type()),
                 root_of_correction = bias_correction(beta2, count).sqrt().to(value.scalar_type());
    const Tensor scaled = largest.sqrt().div_(root_of_correction).add_(eps);
    step.write(parameter, value.sub(times(new_mean, rate).div_(correction).div_(scaled)));
    step.write(mean, new_mean);
    step.write(square, new_square);
  }
  torch::jit::drop(*stack, 15);
  return true;
}

bool coupled_adam(Stack* stack) { return adam(stack, false); }
bool decoupled_adam(Stack* stack) { return adam(stack, true); }

// (self, grads, momentum_buffer_list, weight_decay, momentum, lr, dampening, nesterov, maximize, is_first_step, grad_scale,
// found_inf)
bool sgd(Stack* stack) {
  const auto given = torch::jit::last(*stack, 12);
  std::vector<Tensors> lists{given[0].toTensorVector(), given[1].toTensorVector()};
  const double decay = given[3].toDouble(), momentum = given[4].toDouble(), dampening = given[6].toDouble();
  const bool nesterov = given[7].toBool(), maximize = given[8].toBool(), first = given[9].toBool();
  if (momentum != 0) lists.push_back(given[2].toTensorVector());
  const IValue &rate = given[5], &grad_scale = given[10], &found_inf = given[11];
  if (!is_taken(lists, nullptr, rate, {grad_scale, found_inf})) return false;
  const Step step(grad_scale, found_inf);
  for (size_t i = 0; i < lists[0].size(); ++i) {
    const Tensor &parameter = lists[0][i], value = wide(parameter);
    Tensor grad = step.direction(lists[1][i], maximize);
    if (decay != 0) grad = grad.add(value, decay);
    if (momentum != 0) {
      const Tensor& buffer = lists[2][i];
      const Tensor moved = first ? grad : wide(buffer).mul(momentum).add_(grad, 1 - dampening);
      grad = nesterov ? grad.add(moved, momentum) : moved;
      step.write(buffer, moved);
    }
    step.write(parameter, value.sub(times(grad, rate)));
  }
  torch::jit::drop(*stack, 12);
  return true;
}

const OwnKernel added[] = {
    {"aten::_fused_adam_", &coupled_adam},
    {"aten::_fused_adam_.tensor_lr", &coupled_adam},
    {"aten::_fused_adamw_", &decoupled_adam},
    {"aten::_fused_adamw_.tensor_lr", &decoupled_adam},
    {"aten::_fused_sgd_", &sgd},
    {"aten::_fused_sgd_.tensor_lr", &sgd},
};

}  // namespace
}  // namespace blackwell_compat
