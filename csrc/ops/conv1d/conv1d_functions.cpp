// PyTorch's one-dimensional convolutions by compat_conv1d and compat_conv_transpose1d.
#include "common/gemm_cuda.h"
#include "common/pass_on.h"
#include "ops/conv1d/conv1d.h"

namespace blackwell_compat {
namespace {

using c10::IValue;
using torch::jit::Stack;

bool fits(const IValue& input, const IValue& weight, const IValue& other) {
  const auto dtype = input.toTensor().scalar_type();
  return weight.toTensor().dim() == 3 && input.toTensor().dim() == 3 && gemm_takes(dtype) &&
         weight.toTensor().scalar_type() == dtype && (is_absent(other) || other.toTensor().scalar_type() == dtype);
}

}  // namespace

// (input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
bool convolution_1d(Stack* stack) {
  const auto given = torch::jit::last(*stack, 9);
  if (!fits(given[0], given[1], given[2])) return false;
  static const auto plain = own_op("compat_conv1d"), transposed = own_op("compat_conv_transpose1d");
  if (given[6].toBool()) {
    pass_on(stack, 9, transposed, {given[0], given[1], given[2], given[3], given[4], given[7], given[8], given[5]});
  } else {
    pass_on(stack, 9, plain, {given[0], given[1], given[2], given[3], given[4], given[5], given[8]});
  }
  return true;
}

// (grad, input, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask)
bool convolution_1d_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 11);
  if (!fits(given[1], given[2], given[0])) return false;
  static const auto plain = own_op("compat_conv1d_backward"), transposed = own_op("compat_conv_transpose1d_backward");
  if (given[7].toBool()) {
    pass_on(stack, 11, transposed, {given[0], given[1], given[2], given[4], given[5], given[8], given[9], given[6], given[10]});
  } else {
    pass_on(stack, 11, plain, {given[0], given[1], given[2], given[4], given[5], given[6], given[9], given[10]});
  }
  return true;
}

}  // namespace blackwell_compat
