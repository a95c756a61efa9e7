// A tile's product by ordinary multiply-adds: every dtype on every card.
#pragma once
#include "kernels/gemm_load.cuh"
#include "kernels/gemm_store.cuh"

namespace blackwell_compat {

// A thread's rows and columns of the result are spread over the tile so that a warp's reads of shared
// memory meet different banks. Sums over K are taken in parts of kPart, which keeps rounding errors of long sums small.
template <typename T, typename A, int kTileRows, int kTileColumns, int kThreads, Order kOrderA, Order kOrderB>
class SimtProduct {
  using ShapeA = TileShape<T, kTileRows, kOrderA>;
  using ShapeB = TileShape<T, kTileColumns, kOrderB>;
  static constexpr int kColumnThreads = kTileRows > kTileColumns ? kTileColumns / 8 : 16, kRowThreads = kThreads / kColumnThreads;
  static constexpr int kRows = kTileRows / kRowThreads, kColumns = kTileColumns / kColumnThreads;
  static constexpr int kStep = sizeof(T) == 8 ? 2 : 4;  // values of K at a time
  static constexpr int kPart = 64;

  // What thread `thread` of `threads` has as its i-th: neighbours where a line holds rows, else every `threads`-th
  template <bool across, int threads>
  static __device__ __forceinline__ int place(int thread, int i) {
    return across ? i / kStep * kStep * threads + thread * kStep + i % kStep : thread + i * threads;
  }
  // A warp has 4 by 8 threads, or 8 by 4. Pairs of lanes that differ in bit 0 read the same along one side, those that differ in
  // bit 1 along the other: then two quarters of a warp read 16 bytes a thread at once
  static constexpr int kWarpColumns = kColumnThreads < 8 ? 4 : 8, kWarpsAcross = kColumnThreads / kWarpColumns;
  static __device__ __forceinline__ int of_four() { return threadIdx.x / 16 % 2 * 2 + threadIdx.x % 2; }
  static __device__ __forceinline__ int of_eight() { return threadIdx.x / 2 % 8; }
  static __device__ __forceinline__ int row_thread() {
    return threadIdx.x / 32 / kWarpsAcross * (32 / kWarpColumns) + (kWarpColumns == 8 ? of_four() : of_eight());
  }
  static __device__ __forceinline__ int column_thread() {
    return threadIdx.x / 32 % kWarpsAcross * kWarpColumns + (kWarpColumns == 8 ? of_eight() : of_four());
  }

  struct alignas(kStep * sizeof(T)) Read {
    T value[kStep];
  };

  template <class Shape, int threads, int count>
  static __device__ __forceinline__ void fetch(A (&to)[count][kStep], const T* tile, int thread, int k) {
    const T* const from = tile + Shape::at(place<Shape::kAcross, threads>(thread, 0), k);
    if constexpr (Shape::kAcross) {
#pragma unroll
      for (int q = 0; q < kStep; ++q) {
#pragma unroll
        for (int i = 0; i < count; i += kStep) {
          const Read read = *reinterpret_cast<const Read*>(from + Shape::at(i * threads, q));
#pragma unroll
          for (int e = 0; e < kStep; ++e) to[i + e][q] = to_float(read.value[e]);
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const Read read = *reinterpret_cast<const Read*>(from + Shape::at(i * threads, 0));
#pragma unroll
        for (int e = 0; e < kStep; ++e) to[i][e] = to_float(read.value[e]);
      }
    }
  }

 public:
  __device__ __forceinline__ void begin(Tiles<T>) {}

  template <class Start, class Next>
  __device__ __forceinline__ void step(Tiles<T> tiles, Start start, Next next) {
    start();
#pragma unroll 1
    for (int k = 0; k < ShapeA::kDepth; k += kStep) {
      A a[kRows][kStep], b[kColumns][kStep];
      fetch<ShapeA, kRowThreads>(a, tiles.a, row_thread(), k);
      fetch<ShapeB, kColumnThreads>(b, tiles.b, column_thread(), k);
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
    next();
  }

  // The result leaves in slices: rows of the tile that the block's threads have in their registers under one index
  static constexpr int kSlices = kRows, kSliceRows = kRowThreads;

  static __device__ __forceinline__ int row_of(int slice, int row) { return place<ShapeA::kAcross, kRowThreads>(row, slice); }

  __device__ __forceinline__ void end() { end_part(); }

  __device__ __forceinline__ void stage(int slice, A* shared, Staged staged) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (i != slice) continue;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        shared[staged.at(row_thread(), place<ShapeB::kAcross, kColumnThreads>(column_thread(), j))] = sum_[i][j];
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
