// A tile of attention by ordinary multiply-adds: every dtype on every card.
#pragma once
#include "kernels/attention_load.cuh"

namespace blackwell_compat {

// A warp has whole rows: 4 lanes down, 8 across. A lane's rows, keys and columns are spread so that a warp's reads of shared
// memory meet different banks.
template <typename T, int kWidth>
class SimtAttention {
  static constexpr int kDown = 4, kAcross = 8, kStep = 4;
  static constexpr AttentionKind kKind = AttentionKind::kPlain;

 public:
  using Lines = PaddedLines<T, kWidth>;
  static constexpr int kKeys = attention_keys(kKind, kWidth, sizeof(T), kTilesFor);
  static constexpr int kRowsOfWarp = attention_rows(kKind, kWidth, sizeof(T), kTilesFor) / kAttentionWarps,
                       kOwnRows = kRowsOfWarp / kDown;
  static constexpr int kOwnKeys = kKeys / kAcross, kOwnColumns = kWidth / kAcross, kLanes = kAcross;

  // `weights`: room for the tile's, as floats
  __device__ explicit SimtAttention(unsigned char* weights)
      : weights_(reinterpret_cast<float*>(weights) + (threadIdx.x / 32 * kRowsOfWarp + down()) * kWeightsLine) {}

  // Among the warp's
  static __device__ __forceinline__ int own_row(int i) { return down() + i * kDown; }
  static __device__ __forceinline__ int key(int j) { return across() + j * kAcross; }
  static __device__ __forceinline__ int column(int c) { return c / kStep * kStep * kAcross + across() * kStep + c % kStep; }
  __device__ __forceinline__ float& score(int i, int j) { return scores_[i][j]; }
  __device__ __forceinline__ float& sum(int i, int c) { return sums_[i][c]; }

  // `queries`: the warp's first
  __device__ __forceinline__ void multiply_keys(const T* queries, const T* keys) {
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i) {
#pragma unroll
      for (int j = 0; j < kOwnKeys; ++j) scores_[i][j] = 0;
    }
#pragma unroll 4
    for (int w = 0; w < kWidth; w += kStep) {
      float q[kOwnRows][kStep], k[kOwnKeys][kStep];
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i) fetch(q[i], queries + Lines::at(own_row(i), w));
#pragma unroll
      for (int j = 0; j < kOwnKeys; ++j) fetch(k[j], keys + Lines::at(key(j), w));
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i) {
#pragma unroll
        for (int e = 0; e < kStep; ++e) {
#pragma unroll
          for (int j = 0; j < kOwnKeys; ++j) scores_[i][j] += q[i][e] * k[j][e];
        }
      }
    }
  }

  __device__ __forceinline__ void multiply_values(const T* values) {
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i) {
#pragma unroll
      for (int j = 0; j < kOwnKeys; ++j) weights_[i * kDown * kWeightsLine + key(j)] = scores_[i][j];
    }
    __syncwarp();
#pragma unroll 2
    for (int k = 0; k < kKeys; k += kStep) {
      float weight[kOwnRows][kStep];
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i) fetch(weight[i], weights_ + i * kDown * kWeightsLine + k);
#pragma unroll
      for (int e = 0; e < kStep; ++e) {
#pragma unroll
        for (int c = 0; c < kOwnColumns; c += kStep) {
          float value[kStep];
          fetch(value, values + Lines::at(k + e, column(c)));
#pragma unroll
          for (int i = 0; i < kOwnRows; ++i) {
#pragma unroll
            for (int n = 0; n < kStep; ++n) sums_[i][c + n] += weight[i][e] * value[n];
          }
        }
      }
    }
    __syncwarp();
  }

 private:
  static constexpr int kWeightsLine = kKeys + 4;

  static __device__ __forceinline__ int down() { return threadIdx.x % 32 / kAcross; }
  static __device__ __forceinline__ int across() { return threadIdx.x % kAcross; }

  template <typename V>
  static __device__ __forceinline__ void fetch(float (&to)[kStep], const V* from) {
    struct alignas(kStep * sizeof(V)) Vector {
      V value[kStep];
    };
    const Vector read = *reinterpret_cast<const Vector*>(from);
#pragma unroll
    for (int e = 0; e < kStep; ++e) to[e] = to_float(read.value[e]);
  }

  float* const weights_;  // this lane's first row of them
  float scores_[kOwnRows][kOwnKeys], sums_[kOwnRows][kOwnColumns] = {};
};

}  // namespace blackwell_compat
