// gemm: a block makes one tile of the result, or of a part of its sum over K. Tiles of both operands come through shared memory,
// some of them on their way while one is multiplied. The same bits from the same inputs, whatever runs beside.
#include "kernels/gemm_product.cuh"

namespace blackwell_compat {

template <typename T, int kTile, GemmLayout layout>
struct GemmTraits {
  using scalar_t = typename Stored<T>::type;
  using accumulator_t = typename Accumulator<T>::type;
  static constexpr int kSize = kTile, kThreads = gemm_threads(kTile), kStages = gemm_stages(kArchitecture);
  static constexpr Order kOrderA = order_of_a(layout), kOrderB = order_of_b(layout);
  using ShapeA = TileShape<scalar_t, kTile, kOrderA>;
  using ShapeB = TileShape<scalar_t, kTile, kOrderB>;
  using Product = typename blackwell_compat::Product<T, kTile, kOrderA, kOrderB>::type;
  static_assert(kStages * (ShapeA::kSize + ShapeB::kSize) * sizeof(scalar_t) ==
                    gemm_shared_bytes(kTile, sizeof(scalar_t), layout, kArchitecture),
                "the host asks for as much shared memory as the tiles take");

  // Slices of the result in shared memory, whose lines lie 8 values beyond their length apart: no bank is met twice
  static constexpr int kStagedLine = kTile + 8;
  static_assert(Product::kSliceRows * kStagedLine * sizeof(accumulator_t) <=
                gemm_shared_bytes(kTile, sizeof(scalar_t), layout, kArchitecture));
};

template <class Traits>
__device__ __forceinline__ void gemm(const GemmParams& p) {
  using T = typename Traits::scalar_t;
  using A = typename Traits::accumulator_t;
  BC_SHARED(shared);
  T* const tiles_a = reinterpret_cast<T*>(shared);
  T* const tiles_b = tiles_a + Traits::kStages * Traits::ShapeA::kSize;

  // Tiles that run at one time are neighbours: 8 rows of them at a time, so that they find each other's operands in the cache
  const unsigned tiles = p.row_tiles * p.column_tiles, tile = blockIdx.x % tiles, part = blockIdx.x / tiles;
  const unsigned split = part % p.splits, batch = part / p.splits;
  const unsigned band = tile / (8 * p.column_tiles), in_band = tile % (8 * p.column_tiles);
  const unsigned height = min(8u, p.row_tiles - 8 * band);
  const int64_t first_row = int64_t(8 * band + in_band % height) * Traits::kSize;
  const int64_t first_column = int64_t(in_band / height) * Traits::kSize;
  const int64_t k_begin = split * p.k_per_split, k_end = min(p.K, k_begin + p.k_per_split);

  TileLoader<T, Traits::kSize, Traits::kThreads, Traits::kOrderA> load_a(
      static_cast<const T*>(p.a) + batch * p.a_batch + first_row * p.a_row, p.a_row, p.a_k, p.M - first_row);
  TileLoader<T, Traits::kSize, Traits::kThreads, Traits::kOrderB> load_b(
      static_cast<const T*>(p.b) + batch * p.b_batch + first_column * p.b_row, p.b_row, p.b_k, p.N - first_column);
  constexpr int kDepth = Traits::ShapeA::kDepth, kAhead = Traits::kStages - 1;
  const auto start = [&](int stage, int64_t k) {
    load_a.start(tiles_a + stage * Traits::ShapeA::kSize, k, k_end);
    load_b.start(tiles_b + stage * Traits::ShapeB::kSize, k, k_end);
  };
  const auto finish = [&](int stage) {
    load_a.finish(tiles_a + stage * Traits::ShapeA::kSize);
    load_b.finish(tiles_b + stage * Traits::ShapeB::kSize);
    async_commit();
  };

  typename Traits::Product product;
#pragma unroll
  for (int stage = 0; stage < kAhead; ++stage) {
    start(stage, k_begin + stage * kDepth);
    finish(stage);
  }
  int stage = 0, free_stage = kAhead;
  for (int64_t k = k_begin; k < k_end; k += kDepth) {
    async_wait<kAhead - 1>();
    __syncthreads();
    start(free_stage, k + kAhead * kDepth);
    product.step(tiles_a + stage * Traits::ShapeA::kSize, tiles_b + stage * Traits::ShapeB::kSize);
    finish(free_stage);
    free_stage = stage;
    stage = stage + 1 == Traits::kStages ? 0 : stage + 1;
  }

  async_wait<0>();  // what goes beyond K is on its way, too
  product.end();
  store_tile<Traits::kSize, Traits::kThreads>(product, reinterpret_cast<A*>(shared), Traits::kStagedLine, false,
                                              [&](int row, int column, A sum) {
                                                const int64_t m = first_row + row, n = first_column + column;
                                                if (m < p.M && n < p.N) store_sum<T>(p, split, batch, m, n, sum);
                                              });
}

// Adds the parts of a split sum, always in the same order.
template <typename T>
__device__ __forceinline__ void gemm_reduce(const GemmParams& p) {
  using A = typename Accumulator<T>::type;
  const int64_t results = int64_t(p.batch) * p.M * p.N;
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= results) return;
  A sum = 0;
  for (unsigned split = 0; split < p.splits; ++split) sum += static_cast<const A*>(p.partial)[split * results + i];
  store_result<T>(p, i / (p.M * p.N), i / p.N % p.M, i % p.N, sum);
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_gemm_f32_nt_128, 256, GemmParams, gemm<GemmTraits<float, 128, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f32_nt_64, 128, GemmParams, gemm<GemmTraits<float, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f32_nn_128, 256, GemmParams, gemm<GemmTraits<float, 128, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f32_nn_64, 128, GemmParams, gemm<GemmTraits<float, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f32_tn_128, 256, GemmParams, gemm<GemmTraits<float, 128, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f32_tn_64, 128, GemmParams, gemm<GemmTraits<float, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f32_any_64, 128, GemmParams, gemm<GemmTraits<float, 64, GemmLayout::kAny>>)
BC_ENTRY(compat_gemm_tf32_nt_128, 256, GemmParams, gemm<GemmTraits<tf32, 128, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_tf32_nt_64, 128, GemmParams, gemm<GemmTraits<tf32, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_tf32_nn_128, 256, GemmParams, gemm<GemmTraits<tf32, 128, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_tf32_nn_64, 128, GemmParams, gemm<GemmTraits<tf32, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_tf32_tn_128, 256, GemmParams, gemm<GemmTraits<tf32, 128, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_tf32_tn_64, 128, GemmParams, gemm<GemmTraits<tf32, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f16_nt_128, 256, GemmParams, gemm<GemmTraits<f16, 128, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f16_nt_64, 128, GemmParams, gemm<GemmTraits<f16, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f16_nn_128, 256, GemmParams, gemm<GemmTraits<f16, 128, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f16_nn_64, 128, GemmParams, gemm<GemmTraits<f16, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f16_tn_128, 256, GemmParams, gemm<GemmTraits<f16, 128, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f16_tn_64, 128, GemmParams, gemm<GemmTraits<f16, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f16_any_64, 128, GemmParams, gemm<GemmTraits<f16, 64, GemmLayout::kAny>>)
BC_ENTRY(compat_gemm_bf16_nt_128, 256, GemmParams, gemm<GemmTraits<bf16, 128, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_bf16_nt_64, 128, GemmParams, gemm<GemmTraits<bf16, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_bf16_nn_128, 256, GemmParams, gemm<GemmTraits<bf16, 128, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_bf16_nn_64, 128, GemmParams, gemm<GemmTraits<bf16, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_bf16_tn_128, 256, GemmParams, gemm<GemmTraits<bf16, 128, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_bf16_tn_64, 128, GemmParams, gemm<GemmTraits<bf16, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_bf16_any_64, 128, GemmParams, gemm<GemmTraits<bf16, 64, GemmLayout::kAny>>)
BC_ENTRY(compat_gemm_f64_nt_64, 128, GemmParams, gemm<GemmTraits<double, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f64_nn_64, 128, GemmParams, gemm<GemmTraits<double, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f64_tn_64, 128, GemmParams, gemm<GemmTraits<double, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f64_any_64, 128, GemmParams, gemm<GemmTraits<double, 64, GemmLayout::kAny>>)
BC_ENTRY(compat_gemm_reduce_f32, 256, GemmParams, gemm_reduce<float>)
BC_ENTRY(compat_gemm_reduce_f16, 256, GemmParams, gemm_reduce<f16>)
BC_ENTRY(compat_gemm_reduce_bf16, 256, GemmParams, gemm_reduce<bf16>)
BC_ENTRY(compat_gemm_reduce_f64, 256, GemmParams, gemm_reduce<double>)
