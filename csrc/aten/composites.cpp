// Ops that PyTorch has kernels for and that are here made of others.
#include <ATen/ATen.h>
#include <c10/util/MathConstants.h>

#include <limits>

#include "aten/wide.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

// (self, dim, keepdim)
bool least_and_most(Stack* stack) {
  const auto given = torch::jit::last(*stack, 3);
  const Tensor self = given[0].toTensor();
  const bool keep = given[2].toBool();
  if (self.numel() == 0 || self.is_complex()) return false;
  if (given[1].isNone()) {
    const std::vector<int64_t> sizes(keep ? self.dim() : 0, 1);
    give(stack, 3, {self.min().view(sizes), self.max().view(sizes)});
  } else {
    const int64_t dim = given[1].toInt();
    give(stack, 3, {self.amin(dim, keep), self.amax(dim, keep)});
  }
  return true;
}

// (self, dim)
bool count_nonzero(Stack* stack) {
  const auto given = torch::jit::last(*stack, 2);
  give(stack, 2, {given[0].toTensor().ne(0).sum(given[1].toDimVector())});
  return true;
}

// (self, eps): log(x / (1 - x))
bool logit(Stack* stack) {
  const auto given = torch::jit::last(*stack, 2);
  const Tensor self = given[0].toTensor();
  if (!self.is_floating_point()) return false;
  Tensor x = wide(self);
  if (!given[1].isNone()) {
    const double low = given[1].toDouble(), high = 1 - low;
    x = x.masked_fill(x.gt(high), high).masked_fill_(x.lt(low), low);  // not clamp: low may be above high
  }
  give(stack, 2, {x.div(x.neg().add_(1)).log_().to(self.scalar_type())});
  return true;
}

// (grad_output, self, eps)
bool logit_grad(Stack* stack) {
  const auto given = torch::jit::last(*stack, 3);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor(), x = wide(self);
  if (!self.is_floating_point() || grad.scalar_type() != self.scalar_type()) return false;
  const bool bounded = !given[2].isNone() && !(given[2].toDouble() < 0);
  const double low = bounded ? given[2].toDouble() : 0, beyond = bounded ? 0 : std::numeric_limits<double>::quiet_NaN();
  const Tensor outside = x.lt(low).logical_or_(x.gt(1 - low)), slopes = wide(grad).div(x.neg().add_(1).mul_(x));
  give(stack, 3, {slopes.masked_fill(outside, beyond).to(self.scalar_type())});
  return true;
}

// (self): sin(pi x) / (pi x)
bool sinc(Stack* stack) {
  const Tensor self = torch::jit::last(*stack, 1)[0].toTensor();
  if (!self.is_floating_point()) return false;
  const Tensor angle = wide(self).mul(c10::pi<double>);
  give(stack, 1, {angle.sin().div_(angle).masked_fill_(angle.eq(0), 1).to(self.scalar_type())});
  return true;
}

const OwnKernel added[] = {{"aten::aminmax", &least_and_most},
                           {"aten::count_nonzero.dim_IntList", &count_nonzero},
                           {"aten::logit", &logit},
                           {"aten::logit_backward", &logit_grad},
                           {"aten::sinc", &sinc}};

}  // namespace
}  // namespace blackwell_compat
