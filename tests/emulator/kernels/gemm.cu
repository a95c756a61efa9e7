// C (M, N) = A (M, K) B (N, K)^T, sizes that are multiples of the tile: what the emulator takes per multiplication, and that its
// instructions work together.
#include "kernels/platform.cuh"

namespace blackwell_compat {

struct GemmParams {
  const void *A, *B;
  float* C;
  int M, N, K;
};

// 64 x 64 by 4 warps of 32 x 32, steps of 16, two stages of asynchronous copies
__device__ void gemm_f16(const GemmParams& p) {
  constexpr int kTile = 64, kStep = 16, kPitch = 24;
  BC_SHARED(memory);
  f16* const tiles = reinterpret_cast<f16*>(memory);  // [stage][A, B][row][kPitch]
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int row0 = blockIdx.y * kTile, column0 = blockIdx.x * kTile;
  const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
  const auto tile = [&](int stage, int which) { return tiles + (stage * 2 + which) * kTile * kPitch; };
  const auto fetch = [&](int k0, int stage) {
    const int row = thread / 2, column = thread % 2 * 8;
    async_copy_16(tile(stage, 0) + row * kPitch + column,
                  static_cast<const f16*>(p.A) + static_cast<int64_t>(row0 + row) * p.K + k0 + column, k0 < p.K);
    async_copy_16(tile(stage, 1) + row * kPitch + column,
                  static_cast<const f16*>(p.B) + static_cast<int64_t>(column0 + row) * p.K + k0 + column, k0 < p.K);
    async_commit();
  };
  float sums[2][4][4] = {};
  fetch(0, 0);
  for (int k0 = 0, stage = 0; k0 < p.K; k0 += kStep, stage ^= 1) {
    fetch(k0 + kStep, stage ^ 1);
    async_wait<1>();
    __syncthreads();
    unsigned a[2][4], b[2][4];
    for (int i = 0; i < 2; ++i) {
      load_matrices<false>(a[i], tile(stage, 0) + (warp_row + i * 16 + lane % 16) * kPitch + lane / 16 * 8);
      load_matrices<false>(b[i], tile(stage, 1) + (warp_column + i * 16 + lane % 8 + lane / 16 * 8) * kPitch + lane / 8 % 2 * 8);
    }
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 4; ++j) {
        const unsigned fragment[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        multiply_16x8x16(f16(), sums[i][j], a[i], fragment);
      }
    __syncthreads();
  }
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      for (int r = 0; r < 4; ++r) {
        const int row = row0 + warp_row + i * 16 + lane / 4 + r / 2 * 8,
                  column = column0 + warp_column + j * 8 + lane % 4 * 2 + r % 2;
        p.C[static_cast<int64_t>(row) * p.N + column] = sums[i][j][r];
      }
}

// 64 x 64 by 256 threads of 4 x 4, steps of 16
__device__ void gemm_f32(const GemmParams& p) {
  constexpr int kTile = 64, kStep = 16, kPitch = kTile + 1;
  BC_SHARED(memory);
  float *const a = reinterpret_cast<float*>(memory), *const b = a + kStep * kPitch;
  const int thread = threadIdx.x, row0 = blockIdx.y * kTile, column0 = blockIdx.x * kTile;
  const int my_row = thread / 16, my_column = thread % 16;
  float sums[4][4] = {};
  for (int k0 = 0; k0 < p.K; k0 += kStep) {
    for (int i = thread; i < kTile * kStep; i += 256) {
      const int row = i / kStep, k = i % kStep;
      a[k * kPitch + row] = static_cast<const float*>(p.A)[static_cast<int64_t>(row0 + row) * p.K + k0 + k];
      b[k * kPitch + row] = static_cast<const float*>(p.B)[static_cast<int64_t>(column0 + row) * p.K + k0 + k];
    }
    __syncthreads();
    for (int k = 0; k < kStep; ++k)
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j)
          sums[i][j] = fmaf(a[k * kPitch + my_row + 16 * i], b[k * kPitch + my_column + 16 * j], sums[i][j]);
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j)
      p.C[static_cast<int64_t>(row0 + my_row + 16 * i) * p.N + column0 + my_column + 16 * j] = sums[i][j];
}

}  // namespace blackwell_compat

BC_ENTRY(test_gemm_f16, 128, blackwell_compat::GemmParams, blackwell_compat::gemm_f16)
BC_ENTRY(test_gemm_f32, 256, blackwell_compat::GemmParams, blackwell_compat::gemm_f32)
