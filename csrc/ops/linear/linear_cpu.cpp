// compat_linear on the CPU, weights packed once (common/pack_cache.h): float32 by products of rows (common/row_gemm.h),
// bfloat16 and float16 by oneDNN's matmul where the CPU has them (common/half_matmul.h).
#include <ATen/Parallel.h>

#include "common/cpu.h"
#include "common/half_matmul.h"
#include "common/pack_cache.h"
#include "common/row_gemm.h"
#include "ops/linear/linear.h"

namespace blackwell_compat {
namespace {

constexpr int64_t kRowBytes = 512 << 10;          // input rows that are multiplied with a panel while it is in the cache
constexpr int64_t kProductsPerThread = 32 << 10;  // less is not worth waking a thread

Packed pack(const Tensor& weight) {
  const Tensor w = weight.to(at::kFloat);
  const int64_t n = w.size(0), k = w.size(1);
  const Tensor packed = at::detail::empty_cpu({rows::packed_size(n, k, 1)}, at::kFloat, false);
  rows::pack(w.const_data_ptr<float>(), w.stride(0), w.stride(1), 0, n, k, 1, packed.mutable_data_ptr<float>());
  return {{packed}, nullptr};
}

void multiply(const float* x, const float* weight, const float* bias, float* y, int64_t m, int64_t n, int64_t k, float slope) {
  const int64_t panels = rows::panels(n), threads = at::get_num_threads();
  const auto block = [&](int64_t row, int64_t count, int64_t panel_begin, int64_t panel_end) {
    const int64_t height = std::max<int64_t>(48, kRowBytes / (k * 4) / 12 * 12);
    for (const int64_t end = row + count; row < end; row += height) {
      const rows::Product product{std::min(height, end - row), n, k, 1, k, 0, n, slope};
      rows::multiply(product, x + row * k, weight, bias, y + row * n, panel_begin, panel_end);
    }
  };
  if (m * n * k < kProductsPerThread) return block(0, m, 0, panels);
  const bool by_rows = panels < 4 * threads && m >= 24 * threads;
  at::parallel_for(0, by_rows ? m : panels, by_rows ? 12 : 1, [&](int64_t begin, int64_t end) {
    if (by_rows) {
      block(begin, end - begin, 0, panels);
    } else {
      block(0, m, begin, end);
    }
  });
}

// In float32, for a few columns: a scalar product each, on the weight (N, K) as it is.
Tensor by_scalar_products(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act) {
  const Tensor x = apply_activation(input, pre).to(at::kFloat).contiguous(), w = weight.to(at::kFloat).contiguous();
  const Tensor b = bias ? bias->to(at::kFloat).contiguous() : Tensor();
  const int64_t n = w.size(0), k = w.size(1), m = x.numel() / k;
  auto sizes = input.sizes().vec();
  sizes.back() = n;
  Tensor y = at::detail::empty_cpu(sizes, at::kFloat, false);
  const float *from = x.const_data_ptr<float>(), *weights = w.const_data_ptr<float>();
  const float* biases = bias ? b.const_data_ptr<float>() : nullptr;
  float* to = y.mutable_data_ptr<float>();
  at::parallel_for(0, m, kProductsPerThread / (n * k) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        to[r * n + c] = (biases == nullptr ? 0 : biases[c]) + rows::scalar_product(from + r * k, weights + c * k, k, 1, 0);
      }
    }
  });
  return apply_activation(y, act).to(input.scalar_type());
}

// In float32, on a weight (N, K) that `pack` packed.
Tensor by_rows(const Tensor& input, const Tensor& packed, int64_t n, const OptTensor& bias, Activation pre, Activation act) {
  const Tensor x = apply_activation(input, pre).to(at::kFloat).contiguous();
  const Tensor b = bias ? bias->to(at::kFloat).contiguous() : Tensor();
  const int64_t k = x.size(-1), m = x.numel() / k;
  auto sizes = input.sizes().vec();
  sizes.back() = n;
  Tensor y = at::detail::empty_cpu(sizes, at::kFloat, false);
  const bool fused = act.none() || act.is_leaky();
  multiply(x.const_data_ptr<float>(), packed.const_data_ptr<float>(), bias ? b.const_data_ptr<float>() : nullptr,
           y.mutable_data_ptr<float>(), m, n, k, act.is_leaky() ? act.slope : 1);
  return (fused ? y : apply_activation(y, act)).to(input.scalar_type());
}

}  // namespace

Tensor linear_cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act) {
  const auto dtype = compute_dtype(input.scalar_type());
  const bool plain_bias = !bias || (bias->dim() == 1 && bias->size(0) == weight.size(0));
  if (!dtype || weight.dim() != 2 || input.numel() == 0 || weight.numel() == 0 || !plain_bias) {
    return linear_aten(input, weight, bias, pre, act);
  }
  const bool half = *dtype != at::kFloat;
  if (!half && weight.size(0) <= rows::kFewColumns && weight.size(1) >= 16) {
    return by_scalar_products(input, weight, bias, pre, act);
  }
  const auto packed = packed_weight(weight, {'l', static_cast<int64_t>(*dtype), 0, 0},
                                    [&] { return half ? pack_half_matmul(weight, *dtype) : pack(weight); });
  if (!packed) return linear_aten(input, weight, bias, pre, act);
  const int64_t n = weight.size(0);
  if (!half) return by_rows(input, packed->parts[0], n, bias, pre, act);

  const Tensor x = apply_activation(input, pre).to(*dtype).contiguous();
  auto sizes = input.sizes().vec();
  sizes.back() = n;
  Tensor y = at::detail::empty_cpu(sizes, *dtype, false);
  half_matmul(x, *packed, bias ? bias->to(*dtype).contiguous() : Tensor(), act, y);
  return y;
}

Tensor linear_pack(const Tensor& weight) { return pack(weight).parts[0]; }

Tensor linear_unpack(const Tensor& packed, int64_t n, int64_t k) {
  const Tensor weight = at::detail::empty_cpu({n, k}, at::kFloat, false);
  rows::unpack(packed.const_data_ptr<float>(), n, k, 1, weight.mutable_data_ptr<float>(), k, 1, 0);
  return weight;
}

int64_t linear_packed_size(int64_t n, int64_t k) { return rows::packed_size(n, k, 1); }

Tensor linear_packed_cpu(const Tensor& input, const Tensor& packed, const OptTensor& bias, int64_t n, Activation pre,
                         Activation act) {
  if (input.numel() == 0) return linear_aten(input, linear_unpack(packed, n, input.size(-1)), bias, pre, act);
  return by_rows(input, packed, n, bias, pre, act);
}

}  // namespace blackwell_compat
