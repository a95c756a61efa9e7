// The inner kernel of row_gemm, compiled once per instruction set: the including file defines BC_ISA, kLanes (of a vector),
// kMaxRows and kMaxVectors (of a register tile).
#pragma once
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstdint>

#include "common/row_gemm.h"

namespace blackwell_compat::rows::BC_ISA {

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

// The first `count` lanes.
#if defined(__AVX512F__)
inline Vec load_some(const float* from, int64_t count) { return _mm512_maskz_loadu_ps((1u << count) - 1, from); }
inline void store_some(float* to, int64_t count, Vec value) { _mm512_mask_storeu_ps(to, (1u << count) - 1, value); }
#elif defined(__AVX2__)
inline __m256i lanes_below(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vec load_some(const float* from, int64_t count) { return _mm256_maskload_ps(from, lanes_below(count)); }
inline void store_some(float* to, int64_t count, Vec value) { _mm256_maskstore_ps(to, lanes_below(count), value); }
#else
inline Vec load_some(const float* from, int64_t count) {
  Vec value{};
  for (int64_t i = 0; i < count; ++i) value[i] = from[i];
  return value;
}
inline void store_some(float* to, int64_t count, Vec value) {
  for (int64_t i = 0; i < count; ++i) to[i] = value[i];
}
#endif

// What one call of a kernel does: a part of the chain, `taps` stretches of `depth` products.
struct Part {
  const float* x;
  const float* w;  // taps x depth x kPanel
  const float* bias;
  float* y;
  int64_t depth, taps, row_step, tap_step, panel_step, y_step, columns;
  bool first, last;
  float slope;
};

// R rows by V vectors of columns by P panels. `columns` counts those that exist, of the first panel on.
template <int R, int V, int P>
__attribute__((noinline)) void kernel(const Part& a) {
  Vec sum[R][V * P] = {};
  const float* w = a.w;
  for (int64_t t = 0; t < a.taps; ++t) {
    const float* x = a.x + t * a.tap_step;
    for (int64_t c = 0; c < a.depth; ++c, w += kPanel) {
      Vec weights[V * P];
#pragma GCC unroll 8
      for (int v = 0; v < V * P; ++v) weights[v] = *reinterpret_cast<const Vec*>(w + v / V * a.panel_step + v % V * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const float value = x[r * a.row_step + c];
#pragma GCC unroll 8
        for (int v = 0; v < V * P; ++v) sum[r][v] += value * weights[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    float* y = a.y + r * a.y_step;
#pragma GCC unroll 8
    for (int v = 0; v < V * P; ++v) {
      const int64_t column = v / V * kPanel + v % V * kLanes;
      const int64_t count = std::min<int64_t>(kLanes, a.columns - column);
      if (count <= 0) continue;
      Vec value = sum[r][v];
      const float* from = a.first ? a.bias : y;
      if (from != nullptr) {
        value += count == kLanes ? *reinterpret_cast<const Vec*>(from + column) : load_some(from + column, count);
      }
      if (a.last && a.slope == 0) {  // minus infinity times 0 would be NaN
        value = value < 0 ? Vec{} : value;
      } else if (a.last && a.slope != 1) {
        value = value > 0 ? value : value * a.slope;
      }
      if (count == kLanes) {
        *reinterpret_cast<Vec*>(y + column) = value;
      } else {
        store_some(y + column, count, value);
      }
    }
  }
}

using Kernel = void (*)(const Part&);

template <int V, int P, int R = kMaxRows>
Kernel pick(int64_t rows) {
  if constexpr (R == 0) {
    return nullptr;
  } else {
    return rows == R ? static_cast<Kernel>(kernel<R, V, P>) : pick<V, P, R - 1>(rows);
  }
}

constexpr int64_t kTile = kMaxVectors * kLanes;  // columns
// For a single row, which leaves registers free, eight vectors at once: several panels, or one where vectors are short.
constexpr int kVectors = kPanel / kLanes, kWide = kVectors < 8 ? 8 / kVectors : 1;

inline void run_rows(Kernel (*choose)(int64_t), Part part, int64_t rows) {
  for (int64_t tiles = (rows + kMaxRows - 1) / kMaxRows; tiles > 0; --tiles) {
    const int64_t count = (rows + tiles - 1) / tiles;  // even tiles: a short last one would leave the units idle
    choose(count)(part);
    part.x += count * part.row_step;
    part.y += count * part.y_step;
    rows -= count;
  }
}

inline void multiply(const Product& p, const float* x, const float* packed, const float* bias, float* y, int64_t panel_begin,
                     int64_t panel_end) {
  const int64_t taps_at_once = std::max<int64_t>(1, chain(p.depth, p.taps) / p.depth);
  const int64_t depth_at_once = std::min(p.depth, chain(p.depth, p.taps));
  const int64_t all = panels(p.columns);
  for (int64_t t = 0; t < p.taps; t += taps_at_once) {
    const int64_t taps = std::min(taps_at_once, p.taps - t);
    for (int64_t c = 0; c < p.depth; c += depth_at_once) {
      const int64_t depth = std::min(depth_at_once, p.depth - c), stretch = taps * depth * kPanel;
      // Packed: parts of the chain, in each the panels, in each taps x depth x kPanel
      const float* weights = packed + (t * p.depth + taps * c) * all * kPanel;
      const bool first = t == 0 && c == 0, last = t + taps == p.taps && c + depth == p.depth;
      const auto part_at = [&](int64_t panel, int64_t tile) {
        const int64_t column = panel * kPanel + tile;
        return Part{x + t * p.tap_step + c,
                    weights + panel * stretch + tile,
                    bias == nullptr ? nullptr : bias + column,
                    y + column,
                    depth,
                    taps,
                    p.row_step,
                    p.tap_step,
                    stretch,
                    p.y_step,
                    p.columns - column,
                    first,
                    last,
                    p.slope};
      };
      int64_t panel = panel_begin;
      if (p.rows == 1) {
        for (; panel_end - panel >= kWide; panel += kWide) kernel<1, kVectors, kWide>(part_at(panel, 0));
      }
      for (; panel < panel_end; ++panel) {
        for (int64_t tile = 0; tile < std::min(kPanel, p.columns - panel * kPanel); tile += kTile) {
          const bool narrow = p.columns - panel * kPanel - tile <= kLanes;
          run_rows(narrow ? pick<1, 1> : pick<kMaxVectors, 1>, part_at(panel, tile), p.rows);
        }
      }
    }
  }
}

}  // namespace blackwell_compat::rows::BC_ISA
