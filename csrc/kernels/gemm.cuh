// gemm: out (M, N) = activation(a (M, K) b (N, K)^T + addend), batched. What the host and the card share.
#pragma once

namespace blackwell_compat {

// Which index of an operand lies next to each other in memory: NT has K in both, NN the N of b, TN the M of a and the N of b.
// kAny takes whatever strides, an element at a time; the others want 16-byte alignment of pointers, strides and extents.
enum class GemmLayout { kNT, kNN, kTN, kAny };

// Strides count elements. The columns of `out` and `partial` lie next to each other.
struct GemmParams {
  const void *a, *b, *addend;  // addend may be null
  void* out;
  void* partial;  // where splits > 1: (splits, batch, M, N) sums over a part of K each, in the accumulator's type
  long long M, N, K;
  long long a_row, a_k, b_row, b_k, addend_row, addend_column, out_row;
  long long a_batch, b_batch, addend_batch, out_batch;
  long long k_per_split;  // a multiple of the tile's depth
  unsigned row_tiles, column_tiles, splits, batch;
  int activation;  // Act of common/activation.h
  float slope;
};

// A tile is `rows` rows of a by `columns` rows of b, and 64 bytes of K deep. Lines in shared memory lie so far apart beyond their
// length that what threads of a warp read at once, and what they write, meets no bank twice.
constexpr int kGemmDepthBytes = 64, kGemmPadBytes = 16;
constexpr int gemm_pad_bytes(int element, bool k_major) { return element == 4 && !k_major ? 32 : kGemmPadBytes; }

constexpr int gemm_stages(int architecture) { return architecture >= 800 ? 3 : 2; }
constexpr int gemm_operand_bytes(int size, int element, bool k_major) {
  return k_major ? size * (kGemmDepthBytes + gemm_pad_bytes(element, true))
                 : kGemmDepthBytes / element * (size * element + gemm_pad_bytes(element, false));
}
constexpr int gemm_shared_bytes(int rows, int columns, int element, GemmLayout layout, int architecture) {
  const bool b_k_major = layout == GemmLayout::kNT || layout == GemmLayout::kAny;
  return gemm_stages(architecture) *
         (gemm_operand_bytes(rows, element, layout != GemmLayout::kTN) + gemm_operand_bytes(columns, element, b_k_major));
}

// Of a tile's rows or columns a warp of tensor cores has this many; other threads have 8 x 8 results each, of 64 x 64 4 x 8.
constexpr int gemm_warp_side(int side) { return side < 128 ? 32 : 64; }
constexpr int gemm_threads(int rows, int columns, bool tensor_cores) {
  return tensor_cores      ? 32 * (rows / gemm_warp_side(rows)) * (columns / gemm_warp_side(columns))
         : rows == columns ? rows + columns
                           : rows * columns / 64;
}
// Of a convolution's tile: twice as many for double, whose sums take twice the registers
constexpr int conv_threads(int rows, int columns, int element, bool tensor_cores) {
  return gemm_threads(rows, columns, tensor_cores) * (element == 8 ? 2 : 1);
}

// The first architecture that has the tile of 128 x 256.
constexpr int kGemmWideFrom = 800;

}  // namespace blackwell_compat
