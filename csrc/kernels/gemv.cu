// gemv: gemm with few rows of a, bound by reading b once. Each block has some columns of the result and all rows.
#include "kernels/gemm_store.cuh"
#include "kernels/gemv.cuh"

namespace blackwell_compat {

template <typename T>
struct alignas(16) Piece {
  static constexpr int kCount = 16 / sizeof(T);
  T value[kCount];
};

template <int kRows>
struct GemvShape {
  static constexpr int kColumns = gemv_columns(kRows), kWarps = kGemvThreads / 32;
};

// b with K along its lines: the threads of a block share the sums of kColumns columns.
template <typename T, int kRows>
__device__ __forceinline__ void gemv_nt(const GemmParams& p) {
  using A = typename Accumulator<T>::type;
  constexpr int kColumns = GemvShape<kRows>::kColumns, kWarps = GemvShape<kRows>::kWarps;
  BC_SHARED(shared);
  const unsigned tile = blockIdx.x % p.column_tiles, part = blockIdx.x / p.column_tiles;
  const unsigned split = part % p.splits, batch = part / p.splits;
  const int64_t first_column = int64_t(tile) * kColumns;
  const int64_t k_begin = split * p.k_per_split, k_end = min(p.K, k_begin + p.k_per_split);

  const T *a[kRows], *b[kColumns];  // those that are not there repeat the last
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    a[m] = static_cast<const T*>(p.a) + batch * p.a_batch + min(int64_t(m), p.M - 1) * p.a_row;
  }
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    b[n] = static_cast<const T*>(p.b) + batch * p.b_batch + min(first_column + n, p.N - 1) * p.b_row;
  }

  A sum[kRows][kColumns] = {};
#pragma unroll 2
  for (int64_t k = k_begin + threadIdx.x * Piece<T>::kCount; k < k_end; k += kGemvThreads * Piece<T>::kCount) {
    Piece<T> weight[kColumns];
#pragma unroll
    for (int n = 0; n < kColumns; ++n) weight[n] = *reinterpret_cast<const Piece<T>*>(b[n] + k);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      const Piece<T> input = *reinterpret_cast<const Piece<T>*>(a[m] + k);
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int e = 0; e < Piece<T>::kCount; ++e) sum[m][n] += to_float(input.value[e]) * to_float(weight[n].value[e]);
      }
    }
  }

  A* const of_warps = reinterpret_cast<A*>(shared);
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int lanes = 16; lanes > 0; lanes /= 2) sum[m][n] += __shfl_xor_sync(0xffffffffu, sum[m][n], lanes);
      if (threadIdx.x % 32 == 0) of_warps[(m * kColumns + n) * kWarps + threadIdx.x / 32] = sum[m][n];
    }
  }
  __syncthreads();
  const int row = threadIdx.x / kColumns;
  const int64_t column = first_column + threadIdx.x % kColumns;
  if (threadIdx.x >= kRows * kColumns || row >= p.M || column >= p.N) return;
  A total = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) total += of_warps[threadIdx.x * kWarps + warp];
  store_sum<T>(p, split, batch, row, column, total);
}

// b with its rows along its lines: a thread has 16 bytes of columns, the warps of a block take turns along K. Without an a,
// all its values are 1: the sums of b over K.
template <typename T, int kRows>
__device__ __forceinline__ void gemv_nn(const GemmParams& p) {
  using A = typename Accumulator<T>::type;
  constexpr int kPiece = Piece<T>::kCount, kWarps = kGemvThreads / 32;
  BC_SHARED(shared);
  const unsigned tile = blockIdx.x % p.column_tiles, part = blockIdx.x / p.column_tiles;
  const unsigned split = part % p.splits, batch = part / p.splits;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t first_column = int64_t(tile) * 32 * kPiece;
  const int64_t k_begin = split * p.k_per_split, k_end = min(p.K, k_begin + p.k_per_split);
  const T* const a = static_cast<const T*>(p.a) + batch * p.a_batch;
  const T* const b = static_cast<const T*>(p.b) + batch * p.b_batch + min(first_column + lane * kPiece, p.N - kPiece);

  A sum[kRows][kPiece] = {};
#pragma unroll 4
  for (int64_t k = k_begin + warp; k < k_end; k += kWarps) {
    const Piece<T> weight = *reinterpret_cast<const Piece<T>*>(b + k * p.b_k);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      const A input = p.a ? to_float(a[min(int64_t(m), p.M - 1) * p.a_row + k * p.a_k]) : A(1);
#pragma unroll
      for (int e = 0; e < kPiece; ++e) sum[m][e] += input * to_float(weight.value[e]);
    }
  }

  A* const of_warps = reinterpret_cast<A*>(shared);
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    __syncthreads();
#pragma unroll
    for (int e = 0; e < kPiece; ++e) of_warps[(warp * 32 + lane) * kPiece + e] = sum[m][e];
    __syncthreads();
    for (int i = threadIdx.x; i < 32 * kPiece; i += kGemvThreads) {
      A total = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) total += of_warps[w * 32 * kPiece + i];
      if (m < p.M && first_column + i < p.N) store_sum<T>(p, split, batch, m, first_column + i, total);
    }
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_gemv_f32_nt_1, 128, GemmParams, gemv_nt<float, 1>)
BC_ENTRY(compat_gemv_f32_nt_2, 128, GemmParams, gemv_nt<float, 2>)
BC_ENTRY(compat_gemv_f32_nt_4, 128, GemmParams, gemv_nt<float, 4>)
BC_ENTRY(compat_gemv_f32_nt_8, 128, GemmParams, gemv_nt<float, 8>)
BC_ENTRY(compat_gemv_f32_nt_16, 128, GemmParams, gemv_nt<float, 16>)
BC_ENTRY(compat_gemv_f32_nn_1, 128, GemmParams, gemv_nn<float, 1>)
BC_ENTRY(compat_gemv_f32_nn_2, 128, GemmParams, gemv_nn<float, 2>)
BC_ENTRY(compat_gemv_f32_nn_4, 128, GemmParams, gemv_nn<float, 4>)
BC_ENTRY(compat_gemv_f32_nn_8, 128, GemmParams, gemv_nn<float, 8>)
BC_ENTRY(compat_gemv_f16_nt_1, 128, GemmParams, gemv_nt<f16, 1>)
BC_ENTRY(compat_gemv_f16_nt_2, 128, GemmParams, gemv_nt<f16, 2>)
BC_ENTRY(compat_gemv_f16_nt_4, 128, GemmParams, gemv_nt<f16, 4>)
BC_ENTRY(compat_gemv_f16_nt_8, 128, GemmParams, gemv_nt<f16, 8>)
BC_ENTRY(compat_gemv_f16_nt_16, 128, GemmParams, gemv_nt<f16, 16>)
BC_ENTRY(compat_gemv_f16_nn_1, 128, GemmParams, gemv_nn<f16, 1>)
BC_ENTRY(compat_gemv_f16_nn_2, 128, GemmParams, gemv_nn<f16, 2>)
BC_ENTRY(compat_gemv_f16_nn_4, 128, GemmParams, gemv_nn<f16, 4>)
BC_ENTRY(compat_gemv_f16_nn_8, 128, GemmParams, gemv_nn<f16, 8>)
BC_ENTRY(compat_gemv_bf16_nt_1, 128, GemmParams, gemv_nt<bf16, 1>)
BC_ENTRY(compat_gemv_bf16_nt_2, 128, GemmParams, gemv_nt<bf16, 2>)
BC_ENTRY(compat_gemv_bf16_nt_4, 128, GemmParams, gemv_nt<bf16, 4>)
BC_ENTRY(compat_gemv_bf16_nt_8, 128, GemmParams, gemv_nt<bf16, 8>)
BC_ENTRY(compat_gemv_bf16_nt_16, 128, GemmParams, gemv_nt<bf16, 16>)
BC_ENTRY(compat_gemv_bf16_nn_1, 128, GemmParams, gemv_nn<bf16, 1>)
BC_ENTRY(compat_gemv_bf16_nn_2, 128, GemmParams, gemv_nn<bf16, 2>)
BC_ENTRY(compat_gemv_bf16_nn_4, 128, GemmParams, gemv_nn<bf16, 4>)
BC_ENTRY(compat_gemv_bf16_nn_8, 128, GemmParams, gemv_nn<bf16, 8>)
BC_ENTRY(compat_gemv_f64_nt_1, 128, GemmParams, gemv_nt<double, 1>)
BC_ENTRY(compat_gemv_f64_nt_2, 128, GemmParams, gemv_nt<double, 2>)
BC_ENTRY(compat_gemv_f64_nt_4, 128, GemmParams, gemv_nt<double, 4>)
BC_ENTRY(compat_gemv_f64_nt_8, 128, GemmParams, gemv_nt<double, 8>)
BC_ENTRY(compat_gemv_f64_nt_16, 128, GemmParams, gemv_nt<double, 16>)
BC_ENTRY(compat_gemv_f64_nn_1, 128, GemmParams, gemv_nn<double, 1>)
BC_ENTRY(compat_gemv_f64_nn_2, 128, GemmParams, gemv_nn<double, 2>)
BC_ENTRY(compat_gemv_f64_nn_4, 128, GemmParams, gemv_nn<double, 4>)
BC_ENTRY(compat_gemv_f64_nn_8, 128, GemmParams, gemv_nn<double, 8>)
