// Attempts at aten::convolution and its backward: those of volumes that are not transposed.
#pragma once
#include <ATen/core/stack.h>

namespace blackwell_compat {

bool convolution_3d(torch::jit::Stack* stack);
bool convolution_3d_backward(torch::jit::Stack* stack);

}  // namespace blackwell_compat
