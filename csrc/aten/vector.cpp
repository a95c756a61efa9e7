// dot, vdot and addmv, as products of matrices.
#include <ATen/ATen.h>

#include "aten/results.h"
#include "common/kernel_dtype.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

bool dot(Stack* stack) {
  const auto given = torch::jit::last(*stack, 2);
  const Tensor self = given[0].toTensor(), other = given[1].toTensor();
  if (self.dim() != 1 || self.sizes() != other.sizes() || self.scalar_type() != other.scalar_type() || !self.is_cuda() ||
      !other.is_cuda() || !kernel_dtype(self.scalar_type()) || self.numel() == 0) {
    return false;
  }
  give(stack, 2, {at::mm(self.unsqueeze(0), other.unsqueeze(1)).view(at::IntArrayRef())});
  return true;
}

// (self, mat, vec, *, beta, alpha[, out])
bool addmv(const c10::OperatorHandle& op, Stack* stack) {
  const auto given = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = given[0].toTensor(), matrix = given[1].toTensor(), vector = given[2].toTensor();
  const auto dtype = self.scalar_type();
  if (matrix.dim() != 2 || vector.dim() != 1 || matrix.size(1) != vector.size(0) || matrix.numel() == 0 || !kernel_dtype(dtype) ||
      matrix.scalar_type() != dtype || vector.scalar_type() != dtype || self.dim() > 1 ||
      (self.numel() != 1 && self.numel() != matrix.size(0)) || !matrix.is_cuda() || !vector.is_cuda()) {
    return false;
  }
  const int64_t rows = matrix.size(0);
  const Tensor sum =
      at::addmm(self.expand({rows}).unsqueeze(1), matrix, vector.unsqueeze(1), given[3].toScalar(), given[4].toScalar())
          .squeeze(1);
  if (op.schema().is_mutable()) {
    const Tensor result = result_of(op, *stack, self, {rows}, dtype);
    if (!result.defined() || result.sizes() != sum.sizes()) return false;
    result.copy_(sum);
    give(op, stack, {result});
  } else {
    give(op, stack, {sum});
  }
  return true;
}

const OwnKernel dots[] = {{"aten::dot", dot}, {"aten::vdot", dot}};
const OwnKernel functional("aten::addmv", &addmv), in_place("aten::addmv_", &addmv), out("aten::addmv.out", &addmv);

}  // namespace
}  // namespace blackwell_compat
