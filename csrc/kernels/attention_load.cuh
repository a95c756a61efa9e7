// Rows of queries, keys and values from global to shared memory.
#pragma once
#include "kernels/attention.cuh"
#include "kernels/platform.cuh"

namespace blackwell_compat {

template <typename T, int kWidth>
struct AttentionLine {
  static constexpr int kPiece = 16 / sizeof(T), kSize = kWidth + kPiece;  // elements
};

// `rows` lines of which `valid` are there, and of those `width` columns; zeros elsewhere. `from(row)` is where a row begins.
// Done when async_wait says so.
template <typename T, int kWidth, class From>
__device__ __forceinline__ void load_rows(T* shared, From from, int64_t column_stride, int rows, int valid, int width,
                                          bool vectors) {
  using Line = AttentionLine<T, kWidth>;
  constexpr int kPieces = kWidth / Line::kPiece;
  for (int piece = threadIdx.x; piece < rows * kPieces; piece += kAttentionThreads) {
    const int row = piece / kPieces, column = piece % kPieces * Line::kPiece;
    const T* const source = from(row < valid ? row : 0);
    T* const to = shared + row * Line::kSize + column;
    if (vectors) {
      const bool there = row < valid && column < width;
      async_copy_16(to, there ? source + column : source, there);
    } else {
#pragma unroll
      for (int e = 0; e < Line::kPiece; ++e) {
        to[e] = row < valid && column + e < width ? source[(column + e) * column_stride] : T{};
      }
    }
  }
  async_commit();
}

}  // namespace blackwell_compat
