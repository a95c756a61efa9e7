// A tile's product by tensor cores. A warp has a part of the tile, made of the instruction's fragments.
#pragma once
#include "kernels/gemm_load.cuh"
#include "kernels/gemm_store.cuh"

namespace blackwell_compat {

struct Place {
  int row, column;
};

// A warp has 64 x 64 of a tile, where it has as much, else 32 in that direction
template <int kTileRows, int kTileColumns>
struct WarpGrid {
  static constexpr int kRows = gemm_warp_side(kTileRows), kColumns = gemm_warp_side(kTileColumns);
  static constexpr int kDown = kTileRows / kRows, kAcross = kTileColumns / kColumns;

  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }
  static __device__ __forceinline__ int row() { return threadIdx.x / 32 / kAcross * kRows; }
  static __device__ __forceinline__ int column() { return threadIdx.x / 32 % kAcross * kColumns; }

  // Slices of the result: 16 rows of every warp
  static constexpr int kSlices = kRows / 16, kSliceRows = 16 * kDown;

  static __device__ __forceinline__ int row_of(int slice, int row) { return row / 16 * kRows + 16 * slice + row % 16; }

  // One slice of the warp's results: element e of fragment j stands at place(j, e), the next at its right
  template <int kFragments, int kCount, typename At>
  static __device__ __forceinline__ void stage(const float (&sum)[kSlices][kFragments][kCount], int slice, float* shared,
                                               Staged staged, At place) {
    float* const of_warp = shared + staged.at(threadIdx.x / 32 / kAcross * 16, column());
#pragma unroll
    for (int i = 0; i < kSlices; ++i) {
      if (i != slice) continue;
#pragma unroll
      for (int j = 0; j < kFragments; ++j) {
#pragma unroll
        for (int e = 0; e < kCount; e += 2) {
          float* const to = of_warp + staged.at(place(j, e).row, place(j, e).column);
          to[0] = sum[i][j][e], to[staged.column] = sum[i][j][e + 1];
        }
      }
    }
  }
};

// Sums in fragments of mma's 16 x 8 results
template <int kTileRows, int kTileColumns>
class FragmentSums : public WarpGrid<kTileRows, kTileColumns> {
  using Grid = WarpGrid<kTileRows, kTileColumns>;

 public:
  __device__ __forceinline__ void end() {}

  __device__ __forceinline__ void stage(int slice, float* shared, Staged staged) const {
    Grid::stage(sum_, slice, shared, staged,
                [](int j, int e) { return Place{Grid::lane() / 4 + e / 2 * 8, 8 * j + Grid::lane() % 4 * 2}; });
  }

 protected:
  static constexpr int kDown = Grid::kRows / 16, kAcross = Grid::kColumns / 8;

  float sum_[kDown][kAcross][4] = {};
};

// float16 from sm_75, bfloat16 from sm_80: 16 x 8 results from 16 values of K; float32 rounded to TF32, from sm_80: from 8.
// `ahead`: operands of the next values of K are on their way from shared memory while these are multiplied. Else there are more
// registers for what start() and next() do.
template <typename T, int kTileRows, int kTileColumns, Order kOrderA, Order kOrderB, bool ahead>
class MmaProduct : public FragmentSums<kTileRows, kTileColumns> {
  using Grid = WarpGrid<kTileRows, kTileColumns>;
  using Sums = FragmentSums<kTileRows, kTileColumns>;
  using S = typename Stored<T>::type;
  using ShapeA = TileShape<S, kTileRows, kOrderA>;
  using ShapeB = TileShape<S, kTileColumns, kOrderB>;
  static constexpr int kDown = Sums::kDown, kAcross = Sums::kAcross;
  static constexpr int kHalf = 16 / sizeof(S), kSteps = kGemmDepthBytes / 32;  // values of K in a matrix, instructions along K
  static_assert(kSteps % 2 == 0);

  struct Fragments {
    unsigned a[kDown][4], b[kAcross][2];
  };

  // What this lane names of the first matrices: of a rows 0 to 7 and 8 to 15, then the same with the next half of K; of b both
  // halves of K, then the same with the next 8 columns. Without matrices: its own element
  static constexpr bool kScalarA = sizeof(S) == 4 && ShapeA::kAcross, kScalarB = sizeof(S) == 4 && ShapeB::kAcross;
  static __device__ __forceinline__ int first_of_a() {
    const int in_matrix = Grid::lane() % 8, matrix = Grid::lane() / 8;
    if (kScalarA) return ShapeA::at(Grid::row() + Grid::lane() / 4, Grid::lane() % 4);
    const int row = Grid::row() + 8 * (matrix % 2), depth = kHalf * (matrix / 2);
    return ShapeA::kAcross ? ShapeA::at(row, depth + in_matrix) : ShapeA::at(row + in_matrix, depth);
  }
  static __device__ __forceinline__ int first_of_b() {
    const int in_matrix = Grid::lane() % 8, matrix = Grid::lane() / 8;
    if (kScalarB) return ShapeB::at(Grid::column() + Grid::lane() / 4, Grid::lane() % 4);
    const int column = Grid::column() + 8 * (matrix / 2), depth = kHalf * (matrix % 2);
    return ShapeB::kAcross ? ShapeB::at(column, depth + in_matrix) : ShapeB::at(column + in_matrix, depth);
  }

  __device__ __forceinline__ void fetch(Fragments& to, Tiles<S> tiles, int k) const {
    const S *const a = tiles.a + first_of_a_, *const b = tiles.b + first_of_b_;
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
      if constexpr (kScalarA) {
#pragma unroll
        for (int e = 0; e < 4; ++e) to.a[i][e] = __float_as_uint(a[ShapeA::at(16 * i + e % 2 * 8, k + e / 2 * kHalf)]);
      } else {
        load_matrices<ShapeA::kAcross>(to.a[i], a, sizeof(S) * ShapeA::at(16 * i, k));
      }
    }
#pragma unroll
    for (int j = 0; j < kAcross; j += 2) {
      unsigned both[4];
      if constexpr (kScalarB) {
#pragma unroll
        for (int e = 0; e < 4; ++e) both[e] = __float_as_uint(b[ShapeB::at(8 * (j + e / 2), k + e % 2 * kHalf)]);
      } else {
        load_matrices<ShapeB::kAcross>(both, b, sizeof(S) * ShapeB::at(8 * j, k));
      }
      to.b[j][0] = both[0], to.b[j][1] = both[1], to.b[j + 1][0] = both[2], to.b[j + 1][1] = both[3];
    }
  }

  static __device__ __forceinline__ void multiply(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    if constexpr (sizeof(S) == 4) {
      multiply_16x8x8(sum, a, b);
    } else {
      multiply_16x8x16(T{}, sum, a, b);
    }
  }

  template <int count, int values>
  static __device__ __forceinline__ void round(unsigned (&fragments)[count][values]) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
#pragma unroll
      for (int e = 0; e < values; ++e) fragments[i][e] = to_tf32(__uint_as_float(fragments[i][e]));
    }
  }

 public:
  __device__ __forceinline__ void begin(Tiles<S> tiles) {
    if (ahead) fetch(fragments_[0], tiles, 0);
  }

  // `start` sets out for tiles to come. `next` returns the next tiles when they are there; this thread reads nothing of these
  // after it has called it
  template <class Start, class Next>
  __device__ __forceinline__ void step(Tiles<S> tiles, Start start, Next next) {
    if (!ahead) start();
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const bool last = s + 1 == kSteps;
      if (ahead) {
        fetch(fragments_[(s + 1) % 2], last ? next() : tiles, last ? 0 : (s + 1) * 2 * kHalf);
        if (s == 0) start();
      } else {
        fetch(fragments_[0], tiles, s * 2 * kHalf);
      }
      Fragments& now = fragments_[ahead ? s % 2 : 0];
      if constexpr (sizeof(S) == 4) round(now.a), round(now.b);
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) multiply(this->sum_[i][j], now.a[i], now.b[j]);
      }
    }
    if (!ahead) next();
  }

 private:
  const int first_of_a_ = first_of_a(), first_of_b_ = first_of_b();
  Fragments fragments_[ahead ? 2 : 1];
};

// float16 on sm_70: 16 x 16 results from 4 values of K, a quarter of them by each quad pair: lanes 4 q to 4 q + 3 and 16 more
template <int kTileRows, int kTileColumns, Order kOrderA, Order kOrderB>
class VoltaProduct : public WarpGrid<kTileRows, kTileColumns> {
  using Grid = WarpGrid<kTileRows, kTileColumns>;
  using ShapeA = TileShape<f16, kTileRows, kOrderA>;
  using ShapeB = TileShape<f16, kTileColumns, kOrderB>;
  static constexpr int kDown = Grid::kRows / 16, kAcross = Grid::kColumns / 16;

  template <class Shape>
  static __device__ __forceinline__ void fetch(unsigned (&to)[2], const f16* tile, int row, int k) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if constexpr (Shape::kAcross) {
        to[e] = tile[Shape::at(row, k + 2 * e)].bits | unsigned(tile[Shape::at(row, k + 2 * e + 1)].bits) << 16;
      } else {
        to[e] = *reinterpret_cast<const unsigned*>(tile + Shape::at(row, k + 2 * e));
      }
    }
  }
  static __device__ __forceinline__ int pair() { return Grid::lane() / 4 % 4; }

 public:
  __device__ __forceinline__ void begin(Tiles<f16>) {}

  template <class Start, class Next>
  __device__ __forceinline__ void step(Tiles<f16> tiles, Start start, Next next) {
    start();
    const int in_pair = Grid::lane() % 4 + Grid::lane() / 16 * 4;
#pragma unroll
    for (int k = 0; k < ShapeA::kDepth; k += 4) {
      unsigned a[kDown][2], b[kAcross][2];
#pragma unroll
      for (int i = 0; i < kDown; ++i) fetch<ShapeA>(a[i], tiles.a, Grid::row() + 16 * i + 8 * (pair() % 2) + in_pair, k);
#pragma unroll
      for (int j = 0; j < kAcross; ++j) fetch<ShapeB>(b[j], tiles.b, Grid::column() + 16 * j + 8 * (pair() / 2) + in_pair, k);
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) multiply_8x8x4(sum_[i][j], a[i], b[j]);
      }
    }
    next();
  }

  __device__ __forceinline__ void end() {}

  __device__ __forceinline__ void stage(int slice, float* shared, Staged staged) const {
    Grid::stage(sum_, slice, shared, staged, [](int j, int e) {
      return Place{8 * (pair() % 2) + Grid::lane() % 2 + (e & 2) + Grid::lane() / 16 * 4,
                   16 * j + 8 * (pair() / 2) + (e & 4) + (Grid::lane() & 2)};
    });
  }

 private:
  float sum_[kDown][kAcross][8] = {};
};

}  // namespace blackwell_compat
