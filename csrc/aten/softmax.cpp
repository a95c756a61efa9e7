// PyTorch's softmax and log_softmax by this package's kernels, forward and backward.
#include "kernels/softmax.cuh"

#include <ATen/WrapDimUtils.h>
#include <c10/core/DeviceGuard.h>

#include "aten/results.h"
#include "aten/rows.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

SoftmaxOut out_kind(at::ScalarType from, at::ScalarType to) {
  if (from == to) return SoftmaxOut::kSame;
  if (to == at::kFloat) return SoftmaxOut::kFloat;
  return to == at::kHalf ? SoftmaxOut::kHalf : SoftmaxOut::kBFloat16;
}

bool takes(const Tensor& tensor) {
  return kernel_dtype(tensor.scalar_type()) && tensor.is_cuda() && tensor.layout() == c10::kStrided &&
         tensor.numel() < kMostRowElements;
}

// `in` and `grad` are dense; without a grad it is the forward
void compute(const Tensor& in, const Tensor& grad, int64_t dim, bool log, const Tensor& result) {
  if (result.numel() == 0) return;
  const c10::DeviceGuard guard(in.device());
  const Tensor out = dense_for(result, result.scalar_type());
  SoftmaxParams p{};
  p.in = in.const_data_ptr(), p.grad = grad.defined() ? grad.const_data_ptr() : nullptr, p.out = out.mutable_data_ptr();
  p.n = in.dim() ? in.size(dim) : 1;
  p.inner = in.dim() ? c10::multiply_integers(in.sizes().slice(dim + 1)) : 1;
  p.outer = in.numel() / p.n / p.inner;
  p.out_kind = out_kind(in.scalar_type(), out.scalar_type());
  p.log = log;
  const std::string kind = grad.defined() ? "compat_softmax_grad_" : "compat_softmax_";
  const char* const dtype = kernel_dtype(in.scalar_type());
  if (p.inner == 1) {
    p.team = team_of(p.n, static_cast<int>(in.element_size())), p.packs = rows_are_packs(p.n, in, grad, out);
    runtime::launch(kind + "rows_" + dtype, in.device(), team_grid(p.outer, p.team, in.device()), &p);
  } else {
    p.columns = columns_of(p.n);
    runtime::launch(kind + "columns_" + dtype, in.device(), column_grid(p.outer * p.inner, p.columns), &p);
  }
  finish(out, result);
}

// (self, dim, half_to_float[, out])
template <bool log>
bool forward(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const bool widens = arguments[2].toBool();
  if (!takes(self) || (widens && self.scalar_type() != at::kHalf && self.scalar_type() != at::kBFloat16)) return false;
  const int64_t dim = at::maybe_wrap_dim(arguments[1].toInt(), self.dim());
  const auto dtype = widens ? at::kFloat : self.scalar_type();
  const Tensor result = result_of(op, *stack, self, self.sizes(), dtype);
  if (!result.defined()) return false;
  compute(self.contiguous(), {}, dim, log, result);
  give(op, stack, {result});
  return true;
}

// (grad_output, output, dim, input_dtype[, out])
template <bool log>
bool backward(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor grad = arguments[0].toTensor(), output = arguments[1].toTensor();
  const auto input_dtype = arguments[3].toScalarType();
  const bool narrows = grad.scalar_type() == at::kFloat && (input_dtype == at::kHalf || input_dtype == at::kBFloat16);
  if (!takes(grad) || !takes(output) || output.scalar_type() != grad.scalar_type() || output.sizes() != grad.sizes() ||
      (grad.scalar_type() != input_dtype && !narrows)) {
    return false;
  }
  const int64_t dim = at::maybe_wrap_dim(arguments[2].toInt(), grad.dim());
  const Tensor result = result_of(op, *stack, grad, grad.sizes(), input_dtype);
  if (!result.defined()) return false;
  compute(output.contiguous(), grad.contiguous(), dim, log, result);
  give(op, stack, {result});
  return true;
}

const OwnKernel softmax("aten::_softmax", &forward<false>), softmax_out("aten::_softmax.out", &forward<false>),
    log_softmax("aten::_log_softmax", &forward<true>), log_softmax_out("aten::_log_softmax.out", &forward<true>),
    softmax_grad("aten::_softmax_backward_data", &backward<false>),
    softmax_grad_out("aten::_softmax_backward_data.out", &backward<false>),
    log_softmax_grad("aten::_log_softmax_backward_data", &backward<true>),
    log_softmax_grad_out("aten::_log_softmax_backward_data.out", &backward<true>);

}  // namespace
}  // namespace blackwell_compat
