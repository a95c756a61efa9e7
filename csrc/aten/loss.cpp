// Negative log likelihood, as cross entropy takes it, by this package's kernels.
#include "kernels/loss.cuh"

#include <ATen/core/Reduction.h>
#include <c10/core/DeviceGuard.h>

#include "aten/results.h"
#include "aten/rows.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "common/pass_on.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

LossReduction reduction_of(int64_t reduction) {
  if (reduction == at::Reduction::None) return LossReduction::kNone;
  return reduction == at::Reduction::Mean ? LossReduction::kMean : LossReduction::kSum;
}

// self (N, C) or (C), of images (N, C, H, W); target without C
struct Nll {
  Tensor self, target, weight;
  LossParams p{};

  Nll(const c10::IValue& self_, const c10::IValue& target_, const c10::IValue& weight_)
      : self(self_.toTensor()), target(target_.toTensor()), weight(optional_tensor(weight_)) {}

  bool is_taken(bool images) {
    const bool of_class = !images && self.dim() == 1;
    if (!of_class && self.dim() != (images ? 4 : 2)) return false;
    auto sizes = self.sizes().vec();
    sizes.erase(sizes.begin() + (of_class ? 0 : 1));
    const int64_t classes = self.size(of_class ? 0 : 1);
    if (!kernel_dtype(self.scalar_type()) || target.scalar_type() != at::kLong || !self.is_cuda() || !target.is_cuda() ||
        target.sizes() != at::IntArrayRef(sizes) || self.numel() >= kMostRowElements || self.numel() == 0) {
      return false;
    }
    if (weight.defined()) {
      if (weight.scalar_type() != self.scalar_type() || weight.dim() != 1 || weight.numel() != classes || !weight.is_cuda())
        return false;
      weight = weight.contiguous();
    }
    self = self.contiguous(), target = target.contiguous();
    p.in = self.const_data_ptr(), p.target = target.const_data_ptr();
    p.weight = weight.defined() ? weight.const_data_ptr() : nullptr;
    p.samples = of_class ? 1 : self.size(0), p.classes = classes, p.inner = self.numel() / p.samples / classes;
    return true;
  }

  // New, or given as that argument
  Tensor result(const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> arguments, size_t place, at::IntArrayRef sizes) const {
    return op.schema().is_mutable() ? resized(arguments[place].toTensor(), sizes, self.scalar_type(), self)
                                    : at::empty(sizes, self.options());
  }

  void launch(const std::string& what, const runtime::Grid& grid) const {
    runtime::launch("compat_loss_" + what + "_" + kernel_dtype(self.scalar_type()), self.device(), grid, &p);
  }
};

bool is_dense(const Tensor& tensor) { return tensor.defined() && tensor.is_contiguous(); }

// (self, target, weight, reduction, ignore_index[, output, total_weight])
template <bool images>
bool nll_loss(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  Nll nll(arguments[0], arguments[1], arguments[2]);
  if (!nll.is_taken(images)) return false;
  LossParams& p = nll.p;
  p.reduction = reduction_of(arguments[3].toInt()), p.ignore_index = arguments[4].toInt();
  const bool one = p.reduction != LossReduction::kNone;
  const at::IntArrayRef sizes = one ? at::IntArrayRef() : nll.target.sizes();
  const Tensor out = nll.result(op, arguments, 5, sizes), total_weight = nll.result(op, arguments, 6, {});
  if (!is_dense(out) || !is_dense(total_weight)) return false;
  const c10::DeviceGuard guard(nll.self.device());
  p.out = out.mutable_data_ptr(), p.total_weight = total_weight.mutable_data_ptr();
  nll.launch("nll", {one ? 1 : ceil_div(nll.target.numel(), kLossThreads), kLossThreads, kLossSharedBytes});
  give(op, stack, {out, total_weight});
  return true;
}

// (grad_output, self, target, weight, reduction, ignore_index, total_weight[, grad_input])
template <bool images>
bool nll_loss_grad(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor grad = arguments[0].toTensor().contiguous(), total_weight = arguments[6].toTensor();
  Nll nll(arguments[1], arguments[2], arguments[3]);
  if (!nll.is_taken(images)) return false;
  LossParams& p = nll.p;
  p.reduction = reduction_of(arguments[4].toInt()), p.ignore_index = arguments[5].toInt();
  const int64_t grads = p.reduction == LossReduction::kNone ? nll.target.numel() : 1;
  if (grad.numel() != grads || total_weight.numel() != 1 || !grad.is_cuda() || !total_weight.is_cuda() ||
      grad.scalar_type() != nll.self.scalar_type() || total_weight.scalar_type() != nll.self.scalar_type()) {
    return false;
  }
  const Tensor result = nll.result(op, arguments, 7, nll.self.sizes());
  if (!is_dense(result) || !is_pack_aligned(result)) return false;
  const c10::DeviceGuard guard(nll.self.device());
  p.grad = grad.const_data_ptr(), p.total_weight = total_weight.mutable_data_ptr(), p.out = result.mutable_data_ptr();
  const int64_t packs = ceil_div(nll.self.numel() * nll.self.element_size(), 16);
  nll.launch("nll_grad", {ceil_div(packs, kLossGradThreads), kLossGradThreads, 0});
  give(op, stack, {result});
  return true;
}

const OwnKernel nll("aten::nll_loss_forward", &nll_loss<false>), nll_out("aten::nll_loss_forward.output", &nll_loss<false>),
    nll_images("aten::nll_loss2d_forward", &nll_loss<true>), nll_images_out("aten::nll_loss2d_forward.output", &nll_loss<true>),
    nll_grad("aten::nll_loss_backward", &nll_loss_grad<false>),
    nll_grad_out("aten::nll_loss_backward.grad_input", &nll_loss_grad<false>),
    nll_images_grad("aten::nll_loss2d_backward", &nll_loss_grad<true>),
    nll_images_grad_out("aten::nll_loss2d_backward.grad_input", &nll_loss_grad<true>);

}  // namespace
}  // namespace blackwell_compat
