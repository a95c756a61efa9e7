// A tile's product by ordinary multiply-adds: every dtype on every card.
#pragma once
#include "kernels/gemm_load.cuh"

namespace blackwell_compat {

// 16 columns of threads; a thread's rows and columns of the result are spread over the tile so that a warp's reads of shared
// memory meet different banks. Sums over K are taken in parts of kPart, which keeps rounding errors of long sums small.
template <typename T, typename A, int kTile, int kThreads, Order kOrderA, Order kOrderB>
class SimtProduct {
  using ShapeA = TileShape<T, kTile, kOrderA>;
  using ShapeB = TileShape<T, kTile, kOrderB>;
  static constexpr int kColumnThreads = 16, kRowThreads = kThreads / kColumnThreads;
  static constexpr int kRows = kTile / kRowThreads, kColumns = kTile / kColumnThreads;
  static constexpr int kStep = sizeof(T) == 8 ? 2 : 4;  // values of K at a time
  static constexpr int kPart = 64;

  // What thread `thread` of `threads` has as its i-th: neighbours where a line holds rows, else every `threads`-th
  template <bool across, int threads>
  static __device__ __forceinline__ int place(int thread, int i) {
    return across ? i / kStep * kStep * threads + thread * kStep + i % kStep : thread + i * threads;
  }
  static __device__ __forceinline__ int row_thread() { return threadIdx.x / 64 * 4 + threadIdx.x % 32 / 8; }
  static __device__ __forceinline__ int column_thread() { return threadIdx.x / 32 % 2 * 8 + threadIdx.x % 8; }

  struct alignas(kStep * sizeof(T)) Vector {
    T value[kStep];
  };

  template <class Shape, int threads, int count>
  static __device__ __forceinline__ void fetch(A (&to)[count][kStep], const T* tile, int thread, int k) {
    if constexpr (Shape::kAcross) {
#pragma unroll
      for (int q = 0; q < kStep; ++q) {
#pragma unroll
        for (int i = 0; i < count; i += kStep) {
          const Vector read = *reinterpret_cast<const Vector*>(tile + Shape::at(place<true, threads>(thread, i), k + q));
#pragma unroll
          for (int e = 0; e < kStep; ++e) to[i + e][q] = to_float(read.value[e]);
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const Vector read = *reinterpret_cast<const Vector*>(tile + Shape::at(place<false, threads>(thread, i), k));
#pragma unroll
        for (int e = 0; e < kStep; ++e) to[i][e] = to_float(read.value[e]);
      }
    }
  }

 public:
  __device__ void step(const T* tile_a, const T* tile_b) {
#pragma unroll 2
    for (int k = 0; k < ShapeA::kDepth; k += kStep) {
      A a[kRows][kStep], b[kColumns][kStep];
      fetch<ShapeA, kRowThreads>(a, tile_a, row_thread(), k);
      fetch<ShapeB, kColumnThreads>(b, tile_b, column_thread(), k);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int q = 0; q < kStep; ++q) {
#pragma unroll
          for (int j = 0; j < kColumns; ++j) part_[i][j] += a[i][q] * b[j][q];
        }
      }
    }
    depth_ += ShapeA::kDepth;
    if (depth_ % kPart == 0) end_part();
  }

  // The result leaves in slices: rows of the tile that the block's threads have in their registers under one index
  static constexpr int kSlices = kRows, kSliceRows = kRowThreads;

  static __device__ __forceinline__ int row_of(int slice, int row) { return place<ShapeA::kAcross, kRowThreads>(row, slice); }

  __device__ __forceinline__ void end() { end_part(); }

  __device__ __forceinline__ void stage(int slice, A* shared, int line) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (i != slice) continue;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        shared[row_thread() * line + place<ShapeB::kAcross, kColumnThreads>(column_thread(), j)] = sum_[i][j];
      }
    }
  }

 private:
  __device__ __forceinline__ void end_part() {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        sum_[i][j] += part_[i][j];
        part_[i][j] = 0;
      }
    }
  }

  A part_[kRows][kColumns] = {}, sum_[kRows][kColumns] = {};
  int depth_ = 0;
};

}  // namespace blackwell_compat
