// PyTorch's convolutions, by their number of dimensions.
#include "aten/conv2d.h"
#include "aten/conv3d.h"
#include "common/own_kernels.h"
#include "ops/conv1d/conv1d.h"

namespace blackwell_compat {
namespace {

using torch::jit::Stack;

bool convolution(Stack* stack) { return convolution_1d(stack) || convolution_2d(stack) || convolution_3d(stack); }
bool convolution_backward(Stack* stack) {
  return convolution_1d_backward(stack) || convolution_2d_backward(stack) || convolution_3d_backward(stack);
}

const OwnKernel forward{"aten::convolution", convolution}, backward{"aten::convolution_backward", convolution_backward};

}  // namespace
}  // namespace blackwell_compat
