// A tile of attention by tensor cores: float16 from sm_75, bfloat16 from sm_80. A warp has 16 whole rows; its scores stay in
// registers, which are the fragments that the product with the values takes.
#pragma once
#include "kernels/attention_load.cuh"

namespace blackwell_compat {

template <typename T, int kWidth>
class MmaAttention {
  static constexpr int kLine = AttentionLine<T, kWidth>::kSize;

 public:
  static constexpr int kRows = attention_rows(kWidth, true), kKeys = attention_keys(kWidth, true, kArchitecture);
  static constexpr int kRowsOfWarp = 16, kOwnRows = 2, kOwnKeys = kKeys / 4, kOwnColumns = kWidth / 4, kLanes = 4;

  __device__ explicit MmaAttention(unsigned char*) {}

  static __device__ __forceinline__ int warp_row() { return threadIdx.x / 32 * kRowsOfWarp; }
  static __device__ __forceinline__ int row(int i) { return warp_row() + lane() / 4 + 8 * i; }
  static __device__ __forceinline__ int key(int j) { return j / 2 * 8 + lane() % 4 * 2 + j % 2; }
  static __device__ __forceinline__ int column(int c) { return key(c); }
  __device__ __forceinline__ float& score(int i, int j) { return scores_[j / 2][2 * i + j % 2]; }
  __device__ __forceinline__ float& sum(int i, int c) { return sums_[c / 2][2 * i + c % 2]; }

  __device__ __forceinline__ void multiply_keys(const T* queries, const T* keys) {
    const int in_matrix = lane() % 8, matrix = lane() / 8;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) scores_[j][e] = 0;
    }
#pragma unroll
    for (int w = 0; w < kWidth; w += 16) {
      unsigned q[4];
      load_matrices<false>(q, queries + (warp_row() + 8 * (matrix % 2) + in_matrix) * kLine + w + 8 * (matrix / 2));
#pragma unroll
      for (int j = 0; j < kKeys / 8; j += 2) {
        unsigned k[4];
        load_matrices<false>(k, keys + (8 * (j + matrix / 2) + in_matrix) * kLine + w + 8 * (matrix % 2));
        multiply_16x8x16(T{}, scores_[j], q, {k[0], k[1]});
        multiply_16x8x16(T{}, scores_[j + 1], q, {k[2], k[3]});
      }
    }
  }

  __device__ __forceinline__ void multiply_values(const T* values) {
    const int in_matrix = lane() % 8, matrix = lane() / 8;
#pragma unroll
    for (int k = 0; k < kKeys / 8; k += 2) {
      const unsigned weight[4] = {pair(scores_[k][0], scores_[k][1]), pair(scores_[k][2], scores_[k][3]),
                                  pair(scores_[k + 1][0], scores_[k + 1][1]), pair(scores_[k + 1][2], scores_[k + 1][3])};
#pragma unroll
      for (int c = 0; c < kWidth / 8; c += 2) {
        unsigned v[4];
        load_matrices<true>(v, values + (8 * (k + matrix % 2) + in_matrix) * kLine + 8 * (c + matrix / 2));
        multiply_16x8x16(T{}, sums_[c], weight, {v[0], v[1]});
        multiply_16x8x16(T{}, sums_[c + 1], weight, {v[2], v[3]});
      }
    }
  }

 private:
  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }
  static __device__ __forceinline__ unsigned pair(float low, float high) {
    return Convert<T>::from(low).bits | unsigned(Convert<T>::from(high).bits) << 16;
  }

  float scores_[kKeys / 8][4], sums_[kWidth / 8][4] = {};
};

}  // namespace blackwell_compat
