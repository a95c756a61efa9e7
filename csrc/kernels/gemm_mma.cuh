// A tile's product by tensor cores. A warp has a part of the tile, made of the instruction's fragments.
#pragma once
#include "kernels/gemm_load.cuh"

namespace blackwell_compat {

struct Place {
  int row, column;
};

// 64 x 32 of a tile of 128, 32 x 32 of a tile of 64
template <int kTile>
struct WarpGrid {
  static constexpr int kDown = 2, kAcross = kTile / 32;
  static constexpr int kRows = kTile / kDown, kColumns = kTile / kAcross;

  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }
  static __device__ __forceinline__ int row() { return threadIdx.x / 32 / kAcross * kRows; }
  static __device__ __forceinline__ int column() { return threadIdx.x / 32 % kAcross * kColumns; }

  // Slices of the result: 16 rows of every warp
  static constexpr int kSlices = kRows / 16, kSliceRows = 16 * kDown;

  static __device__ __forceinline__ int row_of(int slice, int row) { return row / 16 * kRows + 16 * slice + row % 16; }

  // One slice of the warp's results: element e of fragment j stands at place(j, e)
  template <int kFragments, int kCount, typename At>
  static __device__ __forceinline__ void stage(const float (&sum)[kSlices][kFragments][kCount], int slice, float* shared,
                                               int line, At place) {
    float* const of_warp = shared + threadIdx.x / 32 / kAcross * 16 * line + column();
#pragma unroll
    for (int i = 0; i < kSlices; ++i) {
      if (i != slice) continue;
#pragma unroll
      for (int j = 0; j < kFragments; ++j) {
#pragma unroll
        for (int e = 0; e < kCount; ++e) of_warp[place(j, e).row * line + place(j, e).column] = sum[i][j][e];
      }
    }
  }
};

// Sums in fragments of mma's 16 x 8 results
template <int kTile>
class FragmentSums : public WarpGrid<kTile> {
  using Grid = WarpGrid<kTile>;

 public:
  __device__ __forceinline__ void end() {}

  __device__ __forceinline__ void stage(int slice, float* shared, int line) const {
    Grid::stage(sum_, slice, shared, line,
                [](int j, int e) { return Place{Grid::lane() / 4 + e / 2 * 8, 8 * j + Grid::lane() % 4 * 2 + e % 2}; });
  }

 protected:
  static constexpr int kDown = Grid::kRows / 16, kAcross = Grid::kColumns / 8;

  float sum_[kDown][kAcross][4] = {};
};

// float16 from sm_75, bfloat16 from sm_80: 16 x 8 results from 16 values of K
template <typename T, int kTile, Order kOrderA, Order kOrderB>
class MmaProduct : public FragmentSums<kTile> {
  using Grid = WarpGrid<kTile>;
  using Sums = FragmentSums<kTile>;
  using ShapeA = TileShape<T, kTile, kOrderA>;
  using ShapeB = TileShape<T, kTile, kOrderB>;
  static constexpr int kDown = Sums::kDown, kAcross = Sums::kAcross;

 public:
  __device__ __forceinline__ void step(const T* tile_a, const T* tile_b) {
    const int lane = Grid::lane(), in_matrix = lane % 8, matrix = lane / 8;
#pragma unroll
    for (int k = 0; k < ShapeA::kDepth; k += 16) {
      unsigned a[kDown][4], b[kAcross][2];
#pragma unroll
      for (int i = 0; i < kDown; ++i) {  // matrices: rows 0 to 7 and 8 to 15, then the same with the next 8 of K
        const int row = Grid::row() + 16 * i + 8 * (matrix % 2), depth = k + 8 * (matrix / 2);
        load_matrices<ShapeA::kAcross>(
            a[i], tile_a + (ShapeA::kAcross ? ShapeA::at(row, depth + in_matrix) : ShapeA::at(row + in_matrix, depth)));
      }
#pragma unroll
      for (int j = 0; j < kAcross; j += 2) {  // matrices: K 0 to 7 and 8 to 15, then the same with the next 8 columns
        const int column = Grid::column() + 8 * (j + matrix / 2), depth = k + 8 * (matrix % 2);
        unsigned both[4];
        load_matrices<ShapeB::kAcross>(
            both, tile_b + (ShapeB::kAcross ? ShapeB::at(column, depth + in_matrix) : ShapeB::at(column + in_matrix, depth)));
        b[j][0] = both[0], b[j][1] = both[1], b[j + 1][0] = both[2], b[j + 1][1] = both[3];
      }
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) multiply_16x8x16(T{}, this->sum_[i][j], a[i], b[j]);
      }
    }
  }
};

// float32 rounded to TF32, from sm_80: 16 x 8 results from 8 values of K
template <int kTile, Order kOrderA, Order kOrderB>
class Tf32Product : public FragmentSums<kTile> {
  using Grid = WarpGrid<kTile>;
  using Sums = FragmentSums<kTile>;
  using ShapeA = TileShape<float, kTile, kOrderA>;
  using ShapeB = TileShape<float, kTile, kOrderB>;
  static constexpr int kDown = Sums::kDown, kAcross = Sums::kAcross;

 public:
  __device__ __forceinline__ void step(const float* tile_a, const float* tile_b) {
    const int group = Grid::lane() / 4, in_group = Grid::lane() % 4;
#pragma unroll
    for (int k = 0; k < ShapeA::kDepth; k += 8) {
      unsigned a[kDown][4], b[kAcross][2];
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          a[i][e] = to_tf32(tile_a[ShapeA::at(Grid::row() + 16 * i + group + e % 2 * 8, k + in_group + e / 2 * 4)]);
        }
      }
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          b[j][e] = to_tf32(tile_b[ShapeB::at(Grid::column() + 8 * j + group, k + in_group + e * 4)]);
        }
      }
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) multiply_16x8x8(this->sum_[i][j], a[i], b[j]);
      }
    }
  }
};

// float16 on sm_70: 16 x 16 results from 4 values of K, a quarter of them by each quad pair: lanes 4 q to 4 q + 3 and 16 more
template <int kTile, Order kOrderA, Order kOrderB>
class VoltaProduct : public WarpGrid<kTile> {
  using Grid = WarpGrid<kTile>;
  using ShapeA = TileShape<f16, kTile, kOrderA>;
  using ShapeB = TileShape<f16, kTile, kOrderB>;
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
  __device__ __forceinline__ void step(const f16* tile_a, const f16* tile_b) {
    const int in_pair = Grid::lane() % 4 + Grid::lane() / 16 * 4;
#pragma unroll
    for (int k = 0; k < ShapeA::kDepth; k += 4) {
      unsigned a[kDown][2], b[kAcross][2];
#pragma unroll
      for (int i = 0; i < kDown; ++i) fetch<ShapeA>(a[i], tile_a, Grid::row() + 16 * i + 8 * (pair() % 2) + in_pair, k);
#pragma unroll
      for (int j = 0; j < kAcross; ++j) fetch<ShapeB>(b[j], tile_b, Grid::column() + 16 * j + 8 * (pair() / 2) + in_pair, k);
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) multiply_8x8x4(sum_[i][j], a[i], b[j]);
      }
    }
  }

  __device__ __forceinline__ void end() {}

  __device__ __forceinline__ void stage(int slice, float* shared, int line) const {
    Grid::stage(sum_, slice, shared, line, [](int j, int e) {
      return Place{8 * (pair() % 2) + Grid::lane() % 2 + (e & 2) + Grid::lane() / 16 * 4,
                   16 * j + 8 * (pair() / 2) + (e & 4) + (Grid::lane() & 2) + e % 2};
    });
  }

 private:
  float sum_[kDown][kAcross][8] = {};
};

}  // namespace blackwell_compat
