// PyTorch's normalisations of layers and groups by this package's kernels, forward and backward.
#include "aten/norm_cuda.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

// Whether `input` ends with dimensions `normalized`, those of the parameters
bool is_layer(const Tensor& input, at::IntArrayRef normalized, const Tensor& weight, const Tensor& bias) {
  const auto dims = static_cast<int64_t>(normalized.size());
  if (dims == 0 || input.dim() < dims || input.sizes().slice(input.dim() - dims) != normalized) return false;
  for (const Tensor& parameter : {weight, bias}) {
    if (parameter.defined() &&
        (parameter.sizes() != normalized || parameter.scalar_type() != input.scalar_type() || !parameter.is_cuda()))
      return false;
  }
  return takes(input) && c10::multiply_integers(normalized) > 0;
}

c10::DimVector statistic_sizes(const Tensor& input, size_t normalized) {
  c10::DimVector sizes(input.sizes());
  std::fill(sizes.end() - static_cast<std::ptrdiff_t>(normalized), sizes.end(), 1);
  return sizes;
}

// (input, normalized_shape, weight, bias, eps)
bool layer_norm(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 5);
  Tensor input = arguments[0].toTensor(), weight = optional_tensor(arguments[2]), bias = optional_tensor(arguments[3]);
  const auto normalized = arguments[1].toDimVector();
  if (!is_layer(input, normalized, weight, bias)) return false;
  const auto sizes = statistic_sizes(input, normalized.size());
  input = input.contiguous();
  if (weight.defined()) weight = weight.contiguous();
  if (bias.defined()) bias = bias.contiguous();
  const int64_t n = c10::multiply_integers(normalized);
  Norm norm(input, input.numel() / n, n, 1, 1);
  const Tensor out = at::empty(input.sizes(), input.options()), mean = norm.made(sizes), rstd = norm.made(sizes);
  norm.set_affine(weight, bias);
  norm.p.eps = arguments[4].toDouble(), norm.p.wide_statistics = true;
  norm.p.out = written(out), norm.p.out_mean = written(mean), norm.p.out_rstd = written(rstd);
  norm.over_rows("rows", norm.p.samples, n, weight, bias, out);
  give(op, stack, {out, mean, rstd});
  return true;
}

// (input, normalized_shape, weight, eps), composite for autograd
bool rms_norm(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 4);
  Tensor input = arguments[0].toTensor(), weight = optional_tensor(arguments[2]);
  const auto normalized = arguments[1].toDimVector();
  if (!is_layer(input, normalized, weight, {})) return false;
  const auto sizes = statistic_sizes(input, normalized.size());
  input = input.contiguous();
  if (weight.defined()) weight = weight.contiguous();
  const int64_t n = c10::multiply_integers(normalized);
  Norm norm(input, input.numel() / n, n, 1, 1);
  const Tensor out = at::empty(input.sizes(), input.options()), rstd = norm.made(sizes);
  norm.set_affine(weight, {});
  const double least =
      arithmetic(input) == at::kDouble ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
  norm.p.eps = arguments[3].isNone() ? least : arguments[3].toDouble();
  norm.p.centered = false, norm.p.wide_statistics = true;
  norm.p.out = written(out), norm.p.out_rstd = written(rstd);
  norm.over_rows("rows", norm.p.samples, n, weight, out);
  give(op, stack, {out, rstd});
  return true;
}

// (grad_out, input, normalized_shape, mean, rstd, weight, bias, output_mask)
bool layer_norm_grad(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 8);
  Tensor grad = arguments[0].toTensor(), input = arguments[1].toTensor(), weight = optional_tensor(arguments[5]);
  const Tensor mean = arguments[3].toTensor(), rstd = arguments[4].toTensor();
  const auto normalized = arguments[2].toDimVector();
  const auto mask = arguments[7].toBoolList();
  if (!is_layer(input, normalized, weight, {}) || grad.scalar_type() != input.scalar_type() || grad.sizes() != input.sizes()) {
    return false;
  }
  const int64_t n = c10::multiply_integers(normalized), rows = input.numel() / n;
  if (!suits(mean, input, rows) || !suits(rstd, input, rows) || !same_dtype(mean, rstd)) return false;
  input = input.contiguous(), grad = grad.contiguous();
  if (weight.defined()) weight = weight.contiguous();
  Norm norm(input, rows, n, 1, 1);
  norm.p.grad = grad.const_data_ptr();
  norm.set_affine(weight, {});
  norm.set_statistics(mean, rstd);
  const Tensor grad_input = made_if(mask[0], input);
  if (mask[0]) {
    norm.p.out = written(grad_input);
    norm.over_rows("grad_rows", rows, n, grad, weight, grad_input);
  }
  const Tensor grad_weight = parameter_grad_if(mask[1], weight, input, normalized);
  const Tensor grad_bias = parameter_grad_if(mask[2], weight, input, normalized);
  if (mask[1] || mask[2]) {
    const int64_t blocks = ceil_div(n, columns_of(rows)), lanes = kColumnThreads / columns_of(rows);
    const int64_t wanted = ceil_div(4 * runtime::device_info(input.device()).multiprocessors, blocks);
    const int64_t parts = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, rows / (lanes * 16)));
    const Sums sums{norm.made({parts, n}), norm.made({parts, n})};
    norm.over_columns(rows, sums.grad, sums.dot);
    parameter_grads(norm, sums, grad_weight, grad_bias);
  }
  give(op, stack, {grad_input, grad_weight, grad_bias});
  return true;
}

// Whether `input` is (samples, channels, ...), as group norm is given it
bool is_group(const Tensor& input, int64_t samples, int64_t channels, int64_t inner, int64_t groups, const Tensor& weight,
              const Tensor& bias) {
  return takes(input) && input.numel() == samples * channels * inner && channels * inner > 0 && groups > 0 &&
         channels % groups == 0 && suits(weight, input, channels) && suits(bias, input, channels) && same_dtype(weight, bias) &&
         !is_wide(weight, input) && !is_wide(bias, input);
}

// (input, weight, bias, N, C, HxW, group, eps)
bool group_norm(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 8);
  Tensor input = arguments[0].toTensor();
  const Tensor weight = optional_tensor(arguments[1]), bias = optional_tensor(arguments[2]);
  const int64_t samples = arguments[3].toInt(), channels = arguments[4].toInt(), inner = arguments[5].toInt();
  const int64_t groups = arguments[6].toInt(), n = groups > 0 ? channels / groups * inner : 0;
  if (!is_group(input, samples, channels, inner, groups, weight, bias)) return false;
  input = input.contiguous();
  Norm norm(input, samples, channels, inner, groups);
  const Tensor out = at::empty(input.sizes(), input.options());
  const Tensor mean = norm.made({samples, groups}), rstd = norm.made({samples, groups});
  norm.set_affine(weight, bias);
  norm.p.eps = arguments[7].toDouble(), norm.p.per_sample = true;
  if (fit_registers(n, input)) {
    norm.p.out = written(out), norm.p.out_mean = written(mean), norm.p.out_rstd = written(rstd), norm.p.wide_statistics = true;
    const bool along = inner == 1;
    norm.over_rows("rows", samples * groups, n, along ? weight : Tensor(), along ? bias : Tensor(), out);
  } else {
    statistics_of(input.view({samples * groups, -1}), Dims(2), ReduceKind::kRstd, norm.p.eps, mean, rstd);
    norm.set_statistics(mean, rstd);
    norm.over_elements("apply", {}, out);
  }
  give(op, stack, {out, mean, rstd});
  return true;
}

// (grad_out, input, mean, rstd, weight, N, C, HxW, group, output_mask)
bool group_norm_grad(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 10);
  Tensor grad = arguments[0].toTensor(), input = arguments[1].toTensor();
  const Tensor mean = arguments[2].toTensor(), rstd = arguments[3].toTensor(), weight = optional_tensor(arguments[4]);
  const int64_t samples = arguments[5].toInt(), channels = arguments[6].toInt(), inner = arguments[7].toInt();
  const int64_t groups = arguments[8].toInt(), n = groups > 0 ? channels / groups * inner : 0;
  const auto mask = arguments[9].toBoolList();
  if (!is_group(input, samples, channels, inner, groups, weight, {}) || grad.scalar_type() != input.scalar_type() ||
      grad.sizes() != input.sizes() || !suits(mean, input, samples * groups) || !suits(rstd, input, samples * groups) ||
      !same_dtype(mean, rstd)) {
    return false;
  }
  input = input.contiguous(), grad = grad.contiguous();
  Norm norm(input, samples, channels, inner, groups);
  norm.p.grad = grad.const_data_ptr(), norm.p.per_sample = true;
  norm.set_affine(weight, {});
  norm.set_statistics(mean, rstd);
  const Tensor grad_input = made_if(mask[0], input);
  const bool by_rows = fit_registers(n, input);
  if (mask[0] && by_rows) {
    norm.p.out = written(grad_input);
    norm.over_rows("grad_rows", samples * groups, n, grad, inner == 1 ? weight : Tensor(), grad_input);
  }
  const Tensor grad_weight = parameter_grad_if(mask[1], weight, input, {channels});
  const Tensor grad_bias = parameter_grad_if(mask[2], weight, input, {channels});
  if (mask[1] || mask[2] || (mask[0] && !by_rows)) {
    const Sums sums = sums_of_channels(norm, grad);
    if (mask[0] && !by_rows) input_grad(norm, sums, samples * groups, grad, grad_input);
    if (mask[1] || mask[2]) parameter_grads(norm, sums, grad_weight, grad_bias);
  }
  give(op, stack, {grad_input, grad_weight, grad_bias});
  return true;
}

const OwnKernel native_layer_norm("aten::native_layer_norm", &layer_norm),
    native_layer_norm_grad("aten::native_layer_norm_backward", &layer_norm_grad),
    fused_rms_norm("aten::_fused_rms_norm", &rms_norm), native_group_norm("aten::native_group_norm", &group_norm),
    native_group_norm_grad("aten::native_group_norm_backward", &group_norm_grad);

}  // namespace
}  // namespace blackwell_compat
