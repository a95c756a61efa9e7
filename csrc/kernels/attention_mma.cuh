// A tile of attention by tensor cores: float16 from sm_75, bfloat16 from sm_80. A warp has whole rows, bands of 16; its scores
// stay in registers, which are the fragments that the product with the values takes.
#pragma once
#include "kernels/attention_load.cuh"

namespace blackwell_compat {

// The products of a warp's `kBands` bands of queries with `kKeys` keys
template <typename T, int kWidth, int kBands, int kKeys_>
class MmaBands {
 public:
  using Lines = SwizzledLines<T, kWidth>;
  static constexpr int kKeys = kKeys_, kRowsOfWarp = 16 * kBands;
  static constexpr int kOwnRows = 2 * kBands, kOwnKeys = kKeys / 4, kOwnColumns = kWidth / 4, kLanes = 4;

  // Among the warp's
  static __device__ __forceinline__ int own_row(int i) { return lane() / 4 + 8 * i; }
  static __device__ __forceinline__ int key(int j) { return j / 2 * 8 + lane() % 4 * 2 + j % 2; }
  static __device__ __forceinline__ int column(int c) { return key(c); }
  __device__ __forceinline__ float& score(int i, int j) { return scores_[i / 2][j / 2][i % 2 * 2 + j % 2]; }
  __device__ __forceinline__ float& sum(int i, int c) { return sums_[i / 2][c / 2][i % 2 * 2 + c % 2]; }

  // `queries`: the warp's first
  __device__ __forceinline__ void multiply_keys(const T* queries, const T* keys) {
    const unsigned in_matrix = lane() % 8, matrix = lane() / 8;
#pragma unroll
    for (int b = 0; b < kBands; ++b) {
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) scores_[b][j][e] = 0;
      }
    }
#pragma unroll
    for (int w = 0; w < kWidth; w += 16) {
      unsigned q[kBands][4];
#pragma unroll
      for (int b = 0; b < kBands; ++b) {
        load_matrices<false>(q[b], queries + Lines::at(16 * b + 8 * (matrix % 2) + in_matrix, w + 8 * (matrix / 2)));
      }
#pragma unroll
      for (int j = 0; j < kKeys / 8; j += 2) {
        unsigned k[4];
        load_matrices<false>(k, keys + Lines::at(8 * (j + matrix / 2) + in_matrix, w + 8 * (matrix % 2)));
#pragma unroll
        for (int b = 0; b < kBands; ++b) {
          multiply_16x8x16(T{}, scores_[b][j], q[b], {k[0], k[1]});
          multiply_16x8x16(T{}, scores_[b][j + 1], q[b], {k[2], k[3]});
        }
      }
    }
  }

  __device__ __forceinline__ void multiply_values(const T* values) {
    const unsigned in_matrix = lane() % 8, matrix = lane() / 8;
#pragma unroll
    for (int k = 0; k < kKeys / 8; k += 2) {
      unsigned weight[kBands][4];
#pragma unroll
      for (int b = 0; b < kBands; ++b) {
#pragma unroll
        for (int e = 0; e < 4; ++e) weight[b][e] = pair(scores_[b][k + e / 2][e % 2 * 2], scores_[b][k + e / 2][e % 2 * 2 + 1]);
      }
#pragma unroll
      for (int c = 0; c < kWidth / 8; c += 2) {
        unsigned v[4];
        load_matrices<true>(v, values + Lines::at(8 * (k + matrix % 2) + in_matrix, 8 * (c + matrix / 2)));
#pragma unroll
        for (int b = 0; b < kBands; ++b) {
          multiply_16x8x16(T{}, sums_[b][c], weight[b], {v[0], v[1]});
          multiply_16x8x16(T{}, sums_[b][c + 1], weight[b], {v[2], v[3]});
        }
      }
    }
  }

 private:
  static __device__ __forceinline__ unsigned lane() { return threadIdx.x % 32; }
  static __device__ __forceinline__ unsigned pair(float low, float high) {
    return Convert<T>::from(low).bits | unsigned(Convert<T>::from(high).bits) << 16;
  }

  float scores_[kBands][kKeys / 8][4], sums_[kBands][kWidth / 8][4] = {};
};

// A warp's part of a tile that is shared by rows
template <typename T, int kWidth, AttentionKind kind>
struct MmaAttention : MmaBands<T, kWidth, attention_rows(kind, kWidth, sizeof(T), kTilesFor) / kAttentionWarps / 16,
                               attention_keys(kind, kWidth, sizeof(T), kTilesFor)> {
  __device__ explicit MmaAttention(unsigned char*) {}
};

}  // namespace blackwell_compat
