// PyTorch's normalisations of batches by this package's kernels, forward and backward.
#include "aten/norm_cuda.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

// The arguments that the ops have under several names
struct Batch {
  Tensor input, weight, bias, running_mean, running_var;

  // (N, C, ...) in floating point, with parameters and running statistics of C values in one dtype
  bool is_taken() const {
    if (!takes(input) || input.dim() < 2 || input.numel() == 0) return false;
    const int64_t channels = input.size(1);
    for (const Tensor& tensor : {weight, bias, running_mean, running_var}) {
      if (!suits(tensor, input, channels) || !same_dtype(tensor, bias) || !same_dtype(tensor, running_var)) return false;
    }
    return same_dtype(weight, running_mean) && same_dtype(weight, running_var) && same_dtype(bias, running_mean);
  }
  bool has_running() const { return running_mean.defined() && running_var.defined(); }
  bool is_channels_last() const { return !input.is_contiguous() && input.movedim(1, -1).is_contiguous(); }
};

struct Result {
  Tensor out, mean, rstd;
};

Result normalise(Batch batch, bool training, double momentum, double eps) {
  const bool channels_last = batch.is_channels_last();
  if (!channels_last) batch.input = batch.input.contiguous();
  const Tensor& input = batch.input;
  const int64_t samples = input.size(0), channels = input.size(1);
  Norm norm(input, samples, channels, input.numel() / samples / channels, channels);
  norm.p.eps = eps, norm.p.momentum = momentum, norm.p.channels_last = channels_last;
  Result result{at::empty_like(input), norm.made({training ? channels : 0}), norm.made({training ? channels : 0})};
  norm.set_affine(batch.weight, batch.bias);
  if (!training) {
    norm.set_statistics(batch.running_mean, batch.running_var);
    norm.p.of_variance = true;
    norm.over_elements("apply", {}, result.out);
    return result;
  }
  norm.p.out_mean = written(result.mean), norm.p.out_rstd = written(result.rstd);
  const bool runs = batch.running_mean.defined() || batch.running_var.defined();
  if (samples == 1 && !runs && !channels_last && fit_registers(norm.p.inner, input)) {
    norm.p.out = written(result.out), norm.p.wide_statistics = true;
    const bool along = norm.p.inner == 1;
    norm.over_rows("rows", channels, norm.p.inner, along ? batch.weight : Tensor(), along ? batch.bias : Tensor(), result.out);
    return result;
  }
  const Dims dims = ~(Dims(2)) & (~Dims() >> (64 - input.dim()));
  statistics_of(input, dims, runs ? ReduceKind::kVar : ReduceKind::kRstd, runs ? 0 : eps, result.mean, result.rstd);
  if (runs) {
    norm.p.running_mean = written(batch.running_mean), norm.p.running_var = written(batch.running_var);
    const Tensor& running = batch.running_mean.defined() ? batch.running_mean : batch.running_var;
    const bool wide_weight = norm.p.wide_weight;
    norm.p.wide_weight = is_wide(running, input), norm.p.n = samples * norm.p.inner;
    norm.over_statistics("running", channels);
    norm.p.wide_weight = wide_weight;
  }
  norm.set_statistics(result.mean, result.rstd);
  norm.over_elements("apply", {}, result.out);
  return result;
}

enum class Form { kPlain, kNoStatistics, kWithUpdate };

// (input, weight, bias[, running_mean, running_var][, training], momentum, eps)
template <Form form>
bool batch_norm(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  Batch batch{arguments[0].toTensor(), optional_tensor(arguments[1]), optional_tensor(arguments[2]), {}, {}};
  if (form != Form::kNoStatistics) {
    batch.running_mean = optional_tensor(arguments[3]), batch.running_var = optional_tensor(arguments[4]);
  }
  if (!batch.is_taken()) return false;
  const size_t size = arguments.size();
  const bool training = form == Form::kWithUpdate || arguments[size - 3].toBool();
  if (!training && !batch.has_running()) return false;
  const Result result = normalise(batch, training, arguments[size - 2].toDouble(), arguments[size - 1].toDouble());
  std::vector<Tensor> results{result.out, result.mean, result.rstd};
  if (form == Form::kWithUpdate) results.push_back(at::empty({0}, batch.input.options().dtype(at::kByte)));
  give(op, stack, std::move(results));
  return true;
}

// (grad_out, input, weight, running_mean, running_var, save_mean, save_invstd, train, eps, output_mask[, reserve])
bool batch_norm_grad(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  Tensor grad = arguments[0].toTensor();
  Batch batch{
      arguments[1].toTensor(), optional_tensor(arguments[2]), {}, optional_tensor(arguments[3]), optional_tensor(arguments[4])};
  const Tensor save_mean = optional_tensor(arguments[5]), save_rstd = optional_tensor(arguments[6]);
  const bool training = arguments[7].toBool();
  const auto mask = arguments[9].toBoolList();
  if (!batch.is_taken() || grad.scalar_type() != batch.input.scalar_type() || grad.sizes() != batch.input.sizes()) return false;
  const Tensor input = batch.input.contiguous();
  const int64_t samples = input.size(0), channels = input.size(1);
  const Tensor &mean = training ? save_mean : batch.running_mean, &rstd = training ? save_rstd : batch.running_var;
  if (!mean.defined() || !rstd.defined() || !suits(mean, input, channels) || !suits(rstd, input, channels) ||
      !same_dtype(mean, rstd)) {
    return false;
  }
  grad = grad.contiguous();
  Norm norm(input, samples, channels, input.numel() / samples / channels, channels);
  norm.p.grad = grad.const_data_ptr(), norm.p.eps = arguments[8].toDouble(), norm.p.of_variance = !training;
  norm.set_affine(batch.weight, {});
  norm.set_statistics(mean, rstd);
  const Tensor grad_input = made_if(mask[0], input);
  const Tensor grad_weight = parameter_grad_if(mask[1], batch.weight, input, {channels});
  const Tensor grad_bias = parameter_grad_if(mask[2], batch.weight, input, {channels});
  if (mask[0] && !training) norm.over_elements("grad_apply", grad, grad_input);
  if (mask[1] || mask[2] || (mask[0] && training)) {
    const Sums sums = sums_of_channels(norm, grad);
    if (mask[0] && training) input_grad(norm, sums, channels, grad, grad_input);
    if (mask[1] || mask[2]) parameter_grads(norm, sums, grad_weight, grad_bias);
  }
  give(op, stack, {grad_input, grad_weight, grad_bias});
  return true;
}

const OwnKernel native("aten::native_batch_norm", &batch_norm<Form::kPlain>),
    legit("aten::_native_batch_norm_legit", &batch_norm<Form::kPlain>),
    no_statistics("aten::_native_batch_norm_legit.no_stats", &batch_norm<Form::kNoStatistics>),
    with_update("aten::_batch_norm_with_update", &batch_norm<Form::kWithUpdate>),
    native_grad("aten::native_batch_norm_backward", &batch_norm_grad),
    with_update_grad("aten::batch_norm_backward", &batch_norm_grad);

}  // namespace
}  // namespace blackwell_compat
