// gemm: a block makes one tile of the result, or of a part of its sum over K. Tiles of both operands come through shared memory,
// some of them on their way while one is multiplied. The same bits from the same inputs, whatever runs beside.
#include "kernels/gemm_product.cuh"

namespace blackwell_compat {

template <typename T, int kTileRows, int kTileColumns, GemmLayout layout>
struct GemmTraits {
  using scalar_t = typename Stored<T>::type;
  using accumulator_t = typename Accumulator<scalar_t>::type;
  static constexpr int kRows = kTileRows, kColumns = kTileColumns, kStages = gemm_stages(kTilesFor);
  static constexpr Order kOrderA = order_of_a(layout), kOrderB = order_of_b(layout);
  using ShapeA = TileShape<scalar_t, kRows, kOrderA>;
  using ShapeB = TileShape<scalar_t, kColumns, kOrderB>;
  using Chosen = blackwell_compat::Product<T, kRows, kColumns, kOrderA, kOrderB>;
  using Product = typename Chosen::type;
  static constexpr int kThreads = Chosen::kThreads;
  static constexpr int kSharedBytes = gemm_shared_bytes(kRows, kColumns, sizeof(scalar_t), layout, kTilesFor);
  static_assert(kStages * (ShapeA::kSize + ShapeB::kSize) * sizeof(scalar_t) == kSharedBytes,
                "the host asks for as much shared memory as the tiles take");
  static_assert(Product::kSliceRows * (kColumns + 8) * sizeof(accumulator_t) <= kSharedBytes);
};

template <class Traits>
__device__ __forceinline__ void gemm(const GemmParams& p) {
  using T = typename Traits::scalar_t;
  using A = typename Traits::accumulator_t;
  BC_SHARED(shared);
  T* const tiles_a = reinterpret_cast<T*>(shared);
  T* const tiles_b = tiles_a + Traits::kStages * Traits::ShapeA::kSize;

  // Tiles that run at one time are neighbours, some rows of them at a time, so that they find each other's operands in the cache
  constexpr unsigned kBand = 8 * Traits::kColumns / Traits::kRows;
  const unsigned tiles = p.row_tiles * p.column_tiles, tile = blockIdx.x % tiles, part = blockIdx.x / tiles;
  const unsigned split = part % p.splits, batch = part / p.splits;
  const unsigned band = tile / (kBand * p.column_tiles), in_band = tile % (kBand * p.column_tiles);
  const unsigned height = min(kBand, p.row_tiles - kBand * band);
  const int64_t first_row = int64_t(kBand * band + in_band % height) * Traits::kRows;
  const int64_t first_column = int64_t(in_band / height) * Traits::kColumns;
  const int64_t k_begin = split * p.k_per_split;
  const int depth = static_cast<int>(min(p.K - k_begin, p.k_per_split));

  TileLoader<T, Traits::kRows, Traits::kThreads, Traits::kOrderA> load_a(
      static_cast<const T*>(p.a) + batch * p.a_batch + first_row * p.a_row, p.a_row, p.a_k, p.M - first_row);
  TileLoader<T, Traits::kColumns, Traits::kThreads, Traits::kOrderB> load_b(
      static_cast<const T*>(p.b) + batch * p.b_batch + first_column * p.b_row, p.b_row, p.b_k, p.N - first_column);
  load_a.seek(k_begin, depth);
  load_b.seek(k_begin, depth);
  const auto start = [&](int stage) {
    load_a.start(tiles_a + stage * Traits::ShapeA::kSize);
    load_b.start(tiles_b + stage * Traits::ShapeB::kSize);
    load_a.advance();
    load_b.advance();
  };
  const auto finish = [&](int stage) {
    load_a.finish(tiles_a + stage * Traits::ShapeA::kSize);
    load_b.finish(tiles_b + stage * Traits::ShapeB::kSize);
  };
  const auto at = [&](int stage) {
    return Tiles<T>{tiles_a + stage * Traits::ShapeA::kSize, tiles_b + stage * Traits::ShapeB::kSize};
  };

  typename Traits::Product product;
  constexpr int kDepth = Traits::ShapeA::kDepth;
  multiply_steps<Traits::kStages>(product, (depth + kDepth - 1) / kDepth, start, finish, at);
  store_tile<Traits::kColumns, Traits::kThreads, false>(product, reinterpret_cast<A*>(shared),
                                                        GemmEnd<T, A>(p, split, batch, first_row, first_column));
}

// A tile so wide that it wants the registers of newer cards; on others the host does not ask for it
template <class Traits>
__device__ __forceinline__ void gemm_wide(const GemmParams& p) {
  if constexpr (kArchitecture >= kGemmWideFrom) gemm<Traits>(p);
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

BC_ENTRY(compat_gemm_f32_nt_128, 256, GemmParams, gemm<GemmTraits<float, 128, 128, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f32_nt_64, 128, GemmParams, gemm<GemmTraits<float, 64, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f32_nn_128, 256, GemmParams, gemm<GemmTraits<float, 128, 128, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f32_nn_64, 128, GemmParams, gemm<GemmTraits<float, 64, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f32_tn_128, 256, GemmParams, gemm<GemmTraits<float, 128, 128, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f32_tn_64, 128, GemmParams, gemm<GemmTraits<float, 64, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f32_any_64, 128, GemmParams, gemm<GemmTraits<float, 64, 64, GemmLayout::kAny>>)
BC_ENTRY(compat_gemm_tf32_nt_256, 256, GemmParams, gemm_wide<GemmTraits<tf32, 128, 256, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_tf32_nt_128, 256, GemmParams, gemm<GemmTraits<tf32, 128, 128, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_tf32_nt_64, 128, GemmParams, gemm<GemmTraits<tf32, 64, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_tf32_nn_256, 256, GemmParams, gemm_wide<GemmTraits<tf32, 128, 256, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_tf32_nn_128, 256, GemmParams, gemm<GemmTraits<tf32, 128, 128, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_tf32_nn_64, 128, GemmParams, gemm<GemmTraits<tf32, 64, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_tf32_tn_256, 256, GemmParams, gemm_wide<GemmTraits<tf32, 128, 256, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_tf32_tn_128, 256, GemmParams, gemm<GemmTraits<tf32, 128, 128, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_tf32_tn_64, 128, GemmParams, gemm<GemmTraits<tf32, 64, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f16_nt_256, 256, GemmParams, gemm_wide<GemmTraits<f16, 128, 256, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f16_nt_128, 256, GemmParams, gemm<GemmTraits<f16, 128, 128, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f16_nt_64, 128, GemmParams, gemm<GemmTraits<f16, 64, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f16_nn_256, 256, GemmParams, gemm_wide<GemmTraits<f16, 128, 256, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f16_nn_128, 256, GemmParams, gemm<GemmTraits<f16, 128, 128, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f16_nn_64, 128, GemmParams, gemm<GemmTraits<f16, 64, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f16_tn_256, 256, GemmParams, gemm_wide<GemmTraits<f16, 128, 256, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f16_tn_128, 256, GemmParams, gemm<GemmTraits<f16, 128, 128, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f16_tn_64, 128, GemmParams, gemm<GemmTraits<f16, 64, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f16_any_64, 128, GemmParams, gemm<GemmTraits<f16, 64, 64, GemmLayout::kAny>>)
BC_ENTRY(compat_gemm_bf16_nt_256, 256, GemmParams, gemm_wide<GemmTraits<bf16, 128, 256, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_bf16_nt_128, 256, GemmParams, gemm<GemmTraits<bf16, 128, 128, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_bf16_nt_64, 128, GemmParams, gemm<GemmTraits<bf16, 64, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_bf16_nn_256, 256, GemmParams, gemm_wide<GemmTraits<bf16, 128, 256, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_bf16_nn_128, 256, GemmParams, gemm<GemmTraits<bf16, 128, 128, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_bf16_nn_64, 128, GemmParams, gemm<GemmTraits<bf16, 64, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_bf16_tn_256, 256, GemmParams, gemm_wide<GemmTraits<bf16, 128, 256, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_bf16_tn_128, 256, GemmParams, gemm<GemmTraits<bf16, 128, 128, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_bf16_tn_64, 128, GemmParams, gemm<GemmTraits<bf16, 64, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_bf16_any_64, 128, GemmParams, gemm<GemmTraits<bf16, 64, 64, GemmLayout::kAny>>)
BC_ENTRY(compat_gemm_f64_nt_64, 128, GemmParams, gemm<GemmTraits<double, 64, 64, GemmLayout::kNT>>)
BC_ENTRY(compat_gemm_f64_nn_64, 128, GemmParams, gemm<GemmTraits<double, 64, 64, GemmLayout::kNN>>)
BC_ENTRY(compat_gemm_f64_tn_64, 128, GemmParams, gemm<GemmTraits<double, 64, 64, GemmLayout::kTN>>)
BC_ENTRY(compat_gemm_f64_any_64, 128, GemmParams, gemm<GemmTraits<double, 64, 64, GemmLayout::kAny>>)
BC_ENTRY(compat_gemm_reduce_f32, 256, GemmParams, gemm_reduce<float>)
BC_ENTRY(compat_gemm_reduce_f16, 256, GemmParams, gemm_reduce<f16>)
BC_ENTRY(compat_gemm_reduce_bf16, 256, GemmParams, gemm_reduce<bf16>)
BC_ENTRY(compat_gemm_reduce_f64, 256, GemmParams, gemm_reduce<double>)
