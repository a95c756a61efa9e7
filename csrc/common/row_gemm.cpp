// Packing, and the choice of the instruction set.
#include "common/row_gemm.h"

#include <algorithm>

#include "common/clones.h"
#include "common/cpu.h"

namespace blackwell_compat::rows {

using Multiply = void(const Product&, const float*, const float*, const float*, float*, int64_t, int64_t);
Multiply multiply_generic;
#if defined(__x86_64__)
Multiply multiply_avx2, multiply_avx512;
#endif

namespace {

Multiply* chosen() {
#if defined(__x86_64__)
  if (cpu_isa() == Isa::kAvx512) return multiply_avx512;
  if (cpu_isa() == Isa::kAvx2) return multiply_avx2;
#endif
  return multiply_generic;
}

// visit(t, c, n0, exist) for each row of a panel, in the order of the packed form: columns n0 to n0 + exist, the rest is zeros.
template <typename Visit>
void each_row(int64_t columns, int64_t depth, int64_t taps, Visit&& visit) {
  const int64_t taps_at_once = std::max<int64_t>(1, chain(depth, taps) / depth),
                depth_at_once = std::min(depth, chain(depth, taps));
  for (int64_t t0 = 0; t0 < taps; t0 += taps_at_once) {
    for (int64_t c0 = 0; c0 < depth; c0 += depth_at_once) {
      for (int64_t panel = 0; panel < panels(columns); ++panel) {
        const int64_t exist = std::min(kPanel, columns - panel * kPanel);
        for (int64_t t = t0; t < std::min(t0 + taps_at_once, taps); ++t) {
          for (int64_t c = c0; c < std::min(c0 + depth_at_once, depth); ++c) visit(t, c, panel * kPanel, exist);
        }
      }
    }
  }
}

}  // namespace

typedef float Vec __attribute__((vector_size(64), aligned(4), may_alias));

BC_CLONES float scalar_product(const float* x, const float* w, int64_t depth, int64_t taps, int64_t step) {
  Vec sums[2] = {};
  float rest = 0;
  for (int64_t t = 0; t < taps; ++t, x += step, w += depth) {
    int64_t c = 0;
    for (; c + 32 <= depth; c += 32) {
      sums[0] += *reinterpret_cast<const Vec*>(x + c) * *reinterpret_cast<const Vec*>(w + c);
      sums[1] += *reinterpret_cast<const Vec*>(x + c + 16) * *reinterpret_cast<const Vec*>(w + c + 16);
    }
    for (; c + 16 <= depth; c += 16) sums[0] += *reinterpret_cast<const Vec*>(x + c) * *reinterpret_cast<const Vec*>(w + c);
    for (; c < depth; ++c) rest += x[c] * w[c];
  }
  const Vec sum = sums[0] + sums[1];
  float eight[8], four[4];
  for (int i = 0; i < 8; ++i) eight[i] = sum[i] + sum[i + 8];
  for (int i = 0; i < 4; ++i) four[i] = eight[i] + eight[i + 4];
  return (four[0] + four[2]) + (four[1] + four[3]) + rest;
}

int64_t packed_size(int64_t columns, int64_t depth, int64_t taps) { return panels(columns) * kPanel * depth * taps; }

void pack(const float* weight, int64_t n_step, int64_t c_step, int64_t t_step, int64_t columns, int64_t depth, int64_t taps,
          float* packed) {
  each_row(columns, depth, taps, [&](int64_t t, int64_t c, int64_t n0, int64_t exist) {
    const float* from = weight + n0 * n_step + c * c_step + t * t_step;
    for (int64_t n = 0; n < exist; ++n) packed[n] = from[n * n_step];
    std::fill(packed + exist, packed + kPanel, 0.0f);
    packed += kPanel;
  });
}

void unpack(const float* packed, int64_t columns, int64_t depth, int64_t taps, float* weight, int64_t n_step, int64_t c_step,
            int64_t t_step) {
  each_row(columns, depth, taps, [&](int64_t t, int64_t c, int64_t n0, int64_t exist) {
    float* to = weight + n0 * n_step + c * c_step + t * t_step;
    for (int64_t n = 0; n < exist; ++n) to[n * n_step] = packed[n];
    packed += kPanel;
  });
}

void multiply(const Product& product, const float* x, const float* packed, const float* bias, float* y, int64_t panel_begin,
              int64_t panel_end) {
  static Multiply* const kernel = chosen();
  kernel(product, x, packed, bias, y, panel_begin, panel_end);
}

}  // namespace blackwell_compat::rows
