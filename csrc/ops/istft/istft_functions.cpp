// torch.istft by istft_fp32, whose arguments are the same.
#include "common/own_kernels.h"
#include "common/pass_on.h"

namespace blackwell_compat {
namespace {

bool is_wide(at::ScalarType dtype) { return c10::elementSize(c10::toRealValueType(dtype)) >= 4; }

bool istft(torch::jit::Stack* stack) {
  const auto given = torch::jit::last(*stack, 10);
  const bool windowed = !is_absent(given[4]);
  if (!is_wide(given[0].toTensor().scalar_type()) || (windowed && !is_wide(given[4].toTensor().scalar_type()))) return false;
  static const auto op = own_op("istft_fp32");
  pass_on(stack, 10, op, given.vec());
  return true;
}

const OwnKernel function{"aten::istft", istft};

}  // namespace
}  // namespace blackwell_compat
