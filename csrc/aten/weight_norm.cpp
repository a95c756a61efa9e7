// PyTorch's weight norm: norms by this package's reductions, the rest by other ops.
#include <ATen/OpMathType.h>
#include <ATen/WrapDimUtils.h>

#include "aten/reduce_cuda.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

bool takes(const Tensor& v, const Tensor& g, int64_t dim) {
  return reduce_takes(v) && kernel_dtype(v.scalar_type()) && v.numel() > 0 && g.is_cuda() && g.scalar_type() == v.scalar_type() &&
         v.dim() == g.dim() && dim >= 0 && dim < v.dim() && g.numel() == v.size(dim) && g.size(dim) == v.size(dim);
}

// (v, g, dim)
bool weight_norm(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  const Tensor v = arguments[0].toTensor(), g = arguments[1].toTensor();
  const int64_t dim = arguments[2].toInt();
  if (!takes(v, g, dim)) return false;
  const Tensor norms = at::empty(g.sizes(), g.options().dtype(at::toOpMathType(g.scalar_type())));
  ReduceParams p{};
  p.norm = NormKind::kSquares, p.wide = true;
  reduce_cuda(std::string("norm_") + kernel_dtype(v.scalar_type()), p, v, ~(Dims(1) << dim) & (~Dims() >> (64 - v.dim())), norms);
  const Tensor w = at::mul(v, at::div(g, norms)).to(v.scalar_type());
  give(stack, 3, {w, norms});
  return true;
}

// (grad_w, saved_v, saved_g, saved_norms, dim)
bool weight_norm_grad(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 5);
  const Tensor v = arguments[1].toTensor(), g = arguments[2].toTensor(), norms = arguments[3].toTensor();
  const int64_t dim = arguments[4].toInt();
  if (!takes(v, g, dim) || arguments[0].toTensor().sizes() != v.sizes() || norms.numel() != g.numel() || !norms.is_cuda())
    return false;
  const Tensor grad = arguments[0].toTensor().to(norms.scalar_type());
  c10::DimVector others;
  for (int64_t d = 0; d < v.dim(); ++d) {
    if (d != dim) others.push_back(d);
  }
  const Tensor direction = at::div(v, norms), dot = at::mul(grad, direction);
  const Tensor grad_g = others.empty() ? dot : at::sum(dot, others, true);
  const Tensor grad_v = at::mul(at::sub(grad, at::mul(direction, grad_g)), at::div(g, norms));
  give(stack, 5, {grad_v.to(v.scalar_type()), grad_g.to(g.scalar_type())});
  return true;
}

const OwnKernel interface("aten::_weight_norm_interface", &weight_norm),
    interface_grad("aten::_weight_norm_interface_backward", &weight_norm_grad);

}  // namespace
}  // namespace blackwell_compat
