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

// A tile is square, `size` rows of a by `size` rows of b, and 64 bytes of K deep; lines in shared memory are 16 bytes apart
// beyond that, so that neither reading along them nor across them meets one bank twice.
constexpr int kGemmDepthBytes = 64, kGemmPadBytes = 16;

constexpr int gemm_stages(int architecture) { return architecture >= 800 ? 3 : 2; }
constexpr int gemm_operand_bytes(int size, int element, bool k_major) {
  return k_major ? size * (kGemmDepthBytes + kGemmPadBytes) : kGemmDepthBytes / element * (size * element + kGemmPadBytes);
}
constexpr int gemm_shared_bytes(int size, int element, GemmLayout layout, int architecture) {
  return gemm_stages(architecture) * (gemm_operand_bytes(size, element, layout != GemmLayout::kTN) +
                                      gemm_operand_bytes(size, element, layout == GemmLayout::kNT || layout == GemmLayout::kAny));
}
constexpr int gemm_threads(int size) { return 2 * size; }

}  // namespace blackwell_compat
