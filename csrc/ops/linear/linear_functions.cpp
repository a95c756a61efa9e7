// PyTorch's matrix products by this package's kernels: mm, addmm, bmm, baddbmm.
#include <ATen/ATen.h>

#include "common/gemm_cuda.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

// Whether a (M, K) b (K, N), or batches of them, is a product that PyTorch would do as well
bool fits(const Tensor& a, const Tensor& b, int64_t dims) {
  return gemm_takes(a.scalar_type()) && b.scalar_type() == a.scalar_type() && a.dim() == dims && b.dim() == dims &&
         a.size(-1) == b.size(-2) && (dims == 2 || a.size(0) == b.size(0)) && a.layout() == c10::kStrided &&
         b.layout() == c10::kStrided;
}

bool adds(const Tensor& addend, at::IntArrayRef sizes, const Tensor& like) {
  return addend.scalar_type() == like.scalar_type() && at::is_expandable_to(addend.sizes(), sizes);
}

c10::DimVector sizes_of(const Tensor& a, const Tensor& b) {
  c10::DimVector sizes(a.sizes());
  sizes.back() = b.size(-1);
  return sizes;
}

Tensor multiply(const Tensor& a, const Tensor& b, const Tensor& addend) {
  const Tensor out = at::empty(sizes_of(a, b), a.options());
  gemm_cuda(a, b.transpose(-1, -2), addend, {}, out);
  return out;
}

template <int64_t dims>
bool product(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 2);
  const Tensor a = arguments[0].toTensor(), b = arguments[1].toTensor();
  if (!fits(a, b, dims)) return false;
  torch::jit::drop(*stack, 2);
  stack->emplace_back(multiply(a, b, {}));
  return true;
}

template <int64_t dims>
bool product_and_sum(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 5);
  const Tensor addend = arguments[0].toTensor(), a = arguments[1].toTensor(), b = arguments[2].toTensor();
  const at::Scalar beta = arguments[3].toScalar(), alpha = arguments[4].toScalar();
  if (!fits(a, b, dims) || !adds(addend, sizes_of(a, b), a) || beta.isComplex() || alpha.isComplex()) return false;
  const bool plain = beta.equal(1) && alpha.equal(1);
  const Tensor result = multiply(a, b, plain ? addend : Tensor());
  if (!alpha.equal(1)) result.mul_(alpha);
  if (!plain && !beta.equal(0)) result.add_(addend, beta);
  torch::jit::drop(*stack, 5);
  stack->emplace_back(result);
  return true;
}

const OwnKernel mm{"aten::mm", product<2>}, bmm{"aten::bmm", product<3>}, addmm{"aten::addmm", product_and_sum<2>},
    baddbmm{"aten::baddbmm", product_and_sum<3>};

}  // namespace
}  // namespace blackwell_compat
