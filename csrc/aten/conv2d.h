// Attempts at aten::convolution and its backward: those of images, plain and transposed.
#pragma once
#include <ATen/core/stack.h>

namespace blackwell_compat {

bool convolution_2d(torch::jit::Stack* stack);
bool convolution_2d_backward(torch::jit::Stack* stack);

}  // namespace blackwell_compat
