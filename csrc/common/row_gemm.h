// Float32 matrix products of rows with packed weights, the arithmetic of linear and the convolutions on the CPU.
//
// Why not oneDNN for float32: its kernels (3.2 and 3.12 alike) add all K products into one accumulator, which for K = 1024
// is 1.6 to 5 times less exact than what PyTorch does. Here at most 128 products are summed before they are added to
// the result. And a new number of rows needs no new code, where oneDNN generates some for 0.2 to 5 ms.
#pragma once
#include <cstdint>

namespace blackwell_compat::rows {

constexpr int64_t kPanel = 32;  // columns of a panel

// Products summed in registers before they are added to the result. Shorter is more exact and slower (64: 6 %, 128: 2 %).
inline int64_t chain(int64_t depth, int64_t taps) { return depth * taps <= 128 ? 64 : 128; }

// y(r, n) = bias(n) + sum over t < taps, c < depth of x[r * row_step + t * tap_step + c] * w(t, c, n)
struct Product {
  int64_t rows, columns, depth, taps;
  int64_t row_step, tap_step;  // floats
  int64_t y_step;              // floats between rows of y
  float slope;                 // of the result where it is negative; 1 changes nothing
};

// Floats that the packed weight takes.
int64_t packed_size(int64_t columns, int64_t depth, int64_t taps);

// Packs w(t, c, n) = weight[n * n_step + c * c_step + t * t_step].
void pack(const float* weight, int64_t n_step, int64_t c_step, int64_t t_step, int64_t columns, int64_t depth, int64_t taps,
          float* packed);

// The inverse: the same bits.
void unpack(const float* packed, int64_t columns, int64_t depth, int64_t taps, float* weight, int64_t n_step, int64_t c_step,
            int64_t t_step);

// Columns [panel_begin, panel_end) * kPanel of the product, in the calling thread. `packed`, `bias` (null: none) and `y` start
// at column 0.
void multiply(const Product& product, const float* x, const float* packed, const float* bias, float* y, int64_t panel_begin,
              int64_t panel_end);

// The sum of x[t * step + c] * w[t * depth + c] over t < taps, c < depth: for few columns, which would waste a panel.
constexpr int64_t kFewColumns = 4;
float scalar_product(const float* x, const float* w, int64_t depth, int64_t taps, int64_t step);

inline int64_t panels(int64_t columns) { return (columns + kPanel - 1) / kPanel; }

}  // namespace blackwell_compat::rows
