// Matrix products on a card by this package's kernels (kernels/gemm.cu, gemv.cu).
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "common/activation.h"

namespace blackwell_compat {

// float32, float16, bfloat16, float64.
bool gemm_takes(at::ScalarType dtype);

// activation(a b^T + addend): a (M, K) or (batch, M, K), b the same with N; batches are equal or one of them is 1. Any strides,
// any sizes. `addend` may be undefined; else it broadcasts to the result. Sums are float32's (float64's); those of float32 take
// TF32 where PyTorch may (torch.backends.cuda.matmul.allow_tf32).
at::Tensor gemm_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& addend, Activation activation);

// The sums of a (M, N) over M.
at::Tensor sum_rows_cuda(const at::Tensor& a);

// The kernels that products of `dtype` may take on a card: rows up to 16, and more.
std::vector<std::string> gemm_kernels(at::ScalarType dtype, c10::Device device);

}  // namespace blackwell_compat
