// Rows of values, each by a team of threads: adjacent ones of a block, a power of two of them. Columns likewise.
#pragma once
#include "kernels/team.cuh"
#include "kernels/values.cuh"

namespace blackwell_compat {

template <typename T>
struct Pack {
  static constexpr int kSize = 16 / sizeof(T);
  alignas(16) T value[kSize];
};

struct Add {
  template <typename A>
  __device__ __forceinline__ A operator()(A a, A b) const {
    return a + b;
  }
};
struct Multiply {
  template <typename A>
  __device__ __forceinline__ A operator()(A a, A b) const {
    return a * b;
  }
};
struct Greater {
  template <typename A>
  __device__ __forceinline__ A operator()(A a, A b) const {
    return a > b ? a : b;
  }
};

// This thread's place in its team. `packs`: rows are aligned to 16 bytes, and so are their lengths.
struct Team {
  int size, lane;
  bool packs;

  __device__ __forceinline__ Team(int size, bool packs)
      : size(size), lane(static_cast<int>(threadIdx.x) & (size - 1)), packs(packs) {}

  __device__ __forceinline__ int64_t row() const {
    return (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / static_cast<unsigned>(size);
  }
  __device__ __forceinline__ int values() const { return size * kRowValues; }

  // Where the i-th of this thread's values is among those of the team
  template <typename T>
  __device__ __forceinline__ int place(int i) const {
    constexpr int kSize = Pack<T>::kSize;
    return packs ? (i / kSize * size + lane) * kSize + i % kSize : i * size + lane;
  }

  // Those of the team are row[first] and on; `beyond` from row[n] on
  template <typename T, typename A>
  __device__ __forceinline__ void load(const T* row, int first, int n, A beyond, A (&values)[kRowValues]) const {
    if (packs) {
      constexpr int kSize = Pack<T>::kSize;
#pragma unroll
      for (int i = 0; i < kRowValues; i += kSize) {
        const int at = first + place<T>(i);
        if (at < n) {
          const Pack<T> read = *reinterpret_cast<const Pack<T>*>(row + at);
#pragma unroll
          for (int j = 0; j < kSize; ++j) values[i + j] = to_float(read.value[j]);
        } else {
#pragma unroll
          for (int j = 0; j < kSize; ++j) values[i + j] = beyond;
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < kRowValues; ++i) {
        const int at = first + place<T>(i);
        values[i] = at < n ? A(to_float(row[at])) : beyond;
      }
    }
  }

  // In places of rows of `Places`
  template <typename Places, typename T, typename A>
  __device__ __forceinline__ void store(T* row, int first, int n, const A (&values)[kRowValues]) const {
    if (packs && sizeof(T) == sizeof(Places)) {
      constexpr int kSize = Pack<T>::kSize;
#pragma unroll
      for (int i = 0; i < kRowValues; i += kSize) {
        const int at = first + place<T>(i);
        if (at >= n) continue;
        Pack<T> pack;
#pragma unroll
        for (int j = 0; j < kSize; ++j) pack.value[j] = Convert<T>::from(values[i + j]);
        *reinterpret_cast<Pack<T>*>(row + at) = pack;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kRowValues; ++i) {
        const int at = first + place<Places>(i);
        if (at < n) row[at] = Convert<T>::from(values[i]);
      }
    }
  }

  // Over the team, the same for each of its threads. All threads of the block come here
  template <typename A, typename F>
  __device__ __forceinline__ A reduce(A value, F combine) const {
    for (int lanes = min(size, 32) / 2; lanes > 0; lanes /= 2) {
      value = combine(value, __shfl_xor_sync(0xffffffffu, value, lanes));
    }
    if (size <= 32) return value;
    BC_SHARED(shared);
    A* const of_warps = reinterpret_cast<A*>(shared);
    const int thread = static_cast<int>(threadIdx.x), warps = size / 32;
    __syncthreads();
    if (thread % 32 == 0) of_warps[thread / 32] = value;
    __syncthreads();
    value = of_warps[thread / 32 / warps * warps + thread % warps];
    for (int lanes = warps / 2; lanes > 0; lanes /= 2) {
      value = combine(value, __shfl_xor_sync(0xffffffffu, value, lanes));
    }
    return value;
  }
};

// A column by the threads that are `columns` apart, columns next to each other by adjacent threads
struct ColumnTeam {
  int columns, lane, lanes, column;

  __device__ __forceinline__ explicit ColumnTeam(int columns)
      : columns(columns),
        lane(static_cast<int>(threadIdx.x) / columns),
        lanes(kColumnThreads / columns),
        column(static_cast<int>(threadIdx.x) % columns) {}

  __device__ __forceinline__ int64_t first_column() const { return int64_t(blockIdx.x) * columns + column; }

  template <typename A, typename F>
  __device__ __forceinline__ A reduce(A value, F combine) const {
    BC_SHARED(shared);
    A* const of_lanes = reinterpret_cast<A*>(shared);
    __syncthreads();
    of_lanes[threadIdx.x] = value;
    __syncthreads();
    value = of_lanes[column];
    for (int other = 1; other < lanes; ++other) value = combine(value, of_lanes[other * columns + column]);
    return value;
  }
};

}  // namespace blackwell_compat
