// Matrix products on a card by this package's kernels (kernels/gemm.cu, gemv.cu).
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "common/activation.h"

namespace blackwell_compat {

// float32, float16, bfloat16, float64.
bool gemm_takes(at::ScalarType dtype);

// Whether tensor cores multiply tiles of `dtype`; `coarse`: float32 as TF32.
bool uses_tensor_cores(at::ScalarType dtype, bool coarse, int capability);

// out = activation(a b^T + addend): a (M, K) or (batch, M, K), b the same with N; batches are equal or one of them is 1. Any
// strides, any sizes. `addend` may be undefined; else it broadcasts to `out`, which is contiguous. Sums are float32's
// (float64's); those of float32 take TF32 where PyTorch may (torch.backends.cuda.matmul.allow_tf32).
void gemm_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& addend, Activation activation, const at::Tensor& out);
at::Tensor gemm_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& addend);

// The sums of a (M, N) over M, plus `addend` (N) where it is defined.
at::Tensor sum_rows_cuda(const at::Tensor& a, const at::Tensor& addend);

// The kernels that products of `dtype` may take on a card of compute `capability` (120 is 12.0): rows up to 16, and more.
std::vector<std::string> gemm_kernels(at::ScalarType dtype, int capability);

}  // namespace blackwell_compat
