// attention: a block takes some queries of a head and goes over its keys and values once, tile by tile, with the softmax of what
// it has seen so far. The same bits from the same inputs, whatever runs beside.
#include "kernels/attention_mma.cuh"
#include "kernels/attention_simt.cuh"
#include "kernels/gemm_product.cuh"

namespace blackwell_compat {

constexpr float kLog2e = 1.44269504088896341f;

__device__ __forceinline__ float no_score() { return __uint_as_float(0xff800000u); }  // minus infinity

// What a mask adds, in powers of two. Models hide keys by the least float, too, and of a query that sees no other they take the
// mean: it must not become minus infinity.
__device__ __forceinline__ float in_powers_of_two(float mask) {
  const float power = mask * kLog2e;
  return power == no_score() && mask != no_score() ? -3.402823466e38f : power;
}

template <typename T, int kWidth, int tensor_cores = kTensorCores<T>>
struct AttentionTile {
  using type = SimtAttention<T, kWidth>;
};
template <typename T, int kWidth>
struct AttentionTile<T, kWidth, 2> {
  using type = MmaAttention<T, kWidth>;
};

// The largest score of each of a lane's rows so far, in powers of two, and its part of the sums of their weights
template <class Tile>
struct Softmax {
  float largest[Tile::kOwnRows], total[Tile::kOwnRows] = {};

  __device__ __forceinline__ Softmax() {
#pragma unroll
    for (int i = 0; i < Tile::kOwnRows; ++i) largest[i] = no_score();
  }

  // Scores become weights.
  __device__ __forceinline__ void update(Tile& tile) {
#pragma unroll
    for (int i = 0; i < Tile::kOwnRows; ++i) {
      float most = largest[i];
#pragma unroll
      for (int j = 0; j < Tile::kOwnKeys; ++j) most = fmaxf(most, tile.score(i, j));
#pragma unroll
      for (int lanes = 1; lanes < Tile::kLanes; lanes *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, lanes));
      const float origin = most == no_score() ? 0 : most, shrunk = exp2f(largest[i] - origin);
      largest[i] = most;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < Tile::kOwnKeys; ++j) {
        float& score = tile.score(i, j);
        score = exp2f(score - origin);
        sum += score;
      }
      total[i] = total[i] * shrunk + sum;
#pragma unroll
      for (int c = 0; c < Tile::kOwnColumns; ++c) tile.sum(i, c) *= shrunk;
    }
  }

  __device__ __forceinline__ void end() {
#pragma unroll
    for (int i = 0; i < Tile::kOwnRows; ++i) {
#pragma unroll
      for (int lanes = 1; lanes < Tile::kLanes; lanes *= 2) total[i] += __shfl_xor_sync(0xffffffffu, total[i], lanes);
    }
  }
};

// change(score, row, key) of every score of a lane's
template <class Tile, class Change>
__device__ __forceinline__ void each_score(Tile& tile, Change change) {
#pragma unroll
  for (int i = 0; i < Tile::kOwnRows; ++i) {
#pragma unroll
    for (int j = 0; j < Tile::kOwnKeys; ++j) change(tile.score(i, j), i, tile.key(j));
  }
}

// Scores in powers of two, with the mask; none beyond the keys and, where it is causal, the query's own
template <typename T, class Tile>
__device__ __forceinline__ void mask_scores(const AttentionParams& p, Tile& tile, const int64_t (&mask_at)[Tile::kOwnRows],
                                            const int (&query)[Tile::kOwnRows], int first_key, int end, bool limited) {
  const float scale = p.scale * kLog2e;
  each_score(tile, [&](float& score, int, int) { score *= scale; });
  if (p.mask && p.mask_is_bool) {
    const unsigned char* const mask = static_cast<const unsigned char*>(p.mask) + first_key * p.mask_key;
    each_score(tile, [&](float& score, int i, int key) {
      if (first_key + key < end && !mask[mask_at[i] + key * p.mask_key]) score = no_score();
    });
  } else if (p.mask) {
    const T* const mask = static_cast<const T*>(p.mask) + first_key * p.mask_key;
    each_score(tile, [&](float& score, int i, int key) {
      if (first_key + key < end) score += in_powers_of_two(to_float(mask[mask_at[i] + key * p.mask_key]));
    });
  }
  if (limited) {
    each_score(tile, [&](float& score, int i, int key) {
      if (first_key + key > (p.causal ? min(end - 1, query[i]) : end - 1)) score = no_score();
    });
  }
}

template <typename T, int kWidth>
__device__ __forceinline__ void attention(const AttentionParams& p) {
  using Tile = typename AttentionTile<T, kWidth>::type;
  constexpr int kLine = AttentionLine<T, kWidth>::kSize;
  BC_SHARED(shared);
  T* const queries = reinterpret_cast<T*>(shared);
  T* const keys = queries + Tile::kRows * kLine;
  T* const values = keys + Tile::kKeys * kLine;
  Tile tile(reinterpret_cast<unsigned char*>(values + Tile::kKeys * kLine));

  unsigned block = blockIdx.x;
  const int split = block % p.splits;
  block /= p.splits;
  const int first_row = (p.row_tiles - 1 - block % p.row_tiles) * Tile::kRows;  // causal: the longest at first
  block /= p.row_tiles;
  const int units = p.heads / p.fold, first_head = block % units * p.fold;
  const int64_t batch = block / units;
  const int rows = min(Tile::kRows, p.queries * p.fold - first_row);
  const auto head_of = [&](int row) { return first_head + (first_row + row) / p.queries; };
  const auto query_of = [&](int row) { return (first_row + row) % p.queries; };

  const T* const of_batch = static_cast<const T*>(p.query) + batch * p.query_batch;
  const int64_t of_head = first_head / p.group;
  const T* const key = static_cast<const T*>(p.key) + batch * p.key_batch + of_head * p.key_head;
  const T* const value = static_cast<const T*>(p.value) + batch * p.value_batch + of_head * p.value_head;

  const int begin = split * p.keys_per_split;
  const int newest = p.fold > 1 ? p.queries - 1 : first_row + rows - 1, oldest = p.fold > 1 ? 0 : first_row;
  const int end = min(min(p.keys, begin + p.keys_per_split), p.causal ? newest + 1 : p.keys);
  const auto load = [&](T* to, const T* from, int64_t row_stride, int64_t column_stride, int first) {
    load_rows<T, kWidth>(
        to, [&](int row) { return from + (first + row) * row_stride; }, column_stride, Tile::kKeys, end - first, p.width,
        p.vectors);
  };

  int64_t mask_at[Tile::kOwnRows];
  int query[Tile::kOwnRows];
#pragma unroll
  for (int i = 0; i < Tile::kOwnRows; ++i) {
    const int row = min(tile.row(i), rows - 1);
    query[i] = query_of(row);
    mask_at[i] = batch * p.mask_batch + head_of(row) * p.mask_head + query[i] * p.mask_row;
  }

  load_rows<T, kWidth>(
      queries, [&](int row) { return of_batch + head_of(row) * p.query_head + query_of(row) * p.query_row; }, p.query_column,
      Tile::kRows, rows, p.width, p.vectors);
  if (begin < end) load(keys, key, p.key_row, p.key_column, begin);
  const bool busy = tile.warp_row() < rows;  // all lanes of a warp alike
  Softmax<Tile> softmax;
  for (int first = begin; first < end; first += Tile::kKeys) {
    async_wait<0>();
    __syncthreads();
    load(values, value, p.value_row, p.value_column, first);
    if (busy) tile.multiply_keys(queries, keys);
    async_wait<0>();
    __syncthreads();
    if (first + Tile::kKeys < end) load(keys, key, p.key_row, p.key_column, first + Tile::kKeys);
    if (busy) {
      const int last = first + Tile::kKeys - 1;
      mask_scores<T>(p, tile, mask_at, query, first, end, last >= end || (p.causal && last > oldest));
      softmax.update(tile);
      tile.multiply_values(values);
    }
  }
  async_wait<0>();
  if (!busy) return;
  softmax.end();

  if (p.partial) {
#pragma unroll
    for (int i = 0; i < Tile::kOwnRows; ++i) {
      if (tile.row(i) >= rows) continue;
      const int64_t result = (batch * p.heads + head_of(tile.row(i))) * p.queries + query[i] + split * p.results;
      if (threadIdx.x % Tile::kLanes == 0) {
        p.partial_sums[2 * result] = softmax.largest[i], p.partial_sums[2 * result + 1] = softmax.total[i];
      }
#pragma unroll
      for (int c = 0; c < Tile::kOwnColumns; ++c) {
        if (tile.column(c) < p.width) p.partial[result * p.width + tile.column(c)] = tile.sum(i, c);
      }
    }
    return;
  }

  // By way of the warp's own rows of the queries, which are done with, for stores of whole lines
  __syncwarp();
#pragma unroll
  for (int i = 0; i < Tile::kOwnRows; ++i) {
    const float factor = 1 / softmax.total[i];
#pragma unroll
    for (int c = 0; c < Tile::kOwnColumns; ++c) {
      const float result = softmax.total[i] == 0 ? p.of_no_keys : tile.sum(i, c) * factor;
      queries[tile.row(i) * kLine + tile.column(c)] = Convert<T>::from(result);
    }
  }
  __syncwarp();
  constexpr int kPiece = AttentionLine<T, kWidth>::kPiece, kPieces = kWidth / kPiece;
  for (int piece = threadIdx.x % 32; piece < Tile::kRowsOfWarp * kPieces; piece += 32) {
    const int row = tile.warp_row() + piece / kPieces, column = piece % kPieces * kPiece;
    if (row >= rows) break;
    const T* const from = queries + row * kLine + column;
    T* const to = static_cast<T*>(p.out) + batch * p.out_batch + head_of(row) * p.out_head + query_of(row) * p.out_row + column;
    if (p.vectors && column < p.width) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int e = 0; e < min(kPiece, p.width - column); ++e) to[e] = from[e];
    }
  }
}

// Puts together what the splits of a row's keys came to, always in the same order.
template <typename T>
__device__ __forceinline__ void attention_merge(const AttentionParams& p) {
  const int64_t i = int64_t(blockIdx.x) * kAttentionMergeThreads + threadIdx.x;
  if (i >= p.results * p.width) return;
  const int64_t result = i / p.width, column = i % p.width;
  float largest = no_score();
  for (unsigned split = 0; split < p.splits; ++split) {
    largest = fmaxf(largest, p.partial_sums[2 * (split * p.results + result)]);
  }
  const float origin = largest == no_score() ? 0 : largest;
  float sum = 0, total = 0;
  for (unsigned split = 0; split < p.splits; ++split) {
    const int64_t at = split * p.results + result;
    const float weight = exp2f(p.partial_sums[2 * at] - origin);
    sum += weight * p.partial[at * p.width + column], total += weight * p.partial_sums[2 * at + 1];
  }
  const int64_t head = result / p.queries % p.heads, batch = result / p.queries / p.heads;
  static_cast<T*>(p.out)[batch * p.out_batch + head * p.out_head + result % p.queries * p.out_row + column] =
      Convert<T>::from(total == 0 ? p.of_no_keys : sum / total);
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_attention_f32_64, 128, AttentionParams, attention<float, 64>)
BC_ENTRY(compat_attention_f32_128, 128, AttentionParams, attention<float, 128>)
BC_ENTRY(compat_attention_f32_256, 128, AttentionParams, attention<float, 256>)
BC_ENTRY(compat_attention_f16_64, 128, AttentionParams, attention<f16, 64>)
BC_ENTRY(compat_attention_f16_128, 128, AttentionParams, attention<f16, 128>)
BC_ENTRY(compat_attention_f16_256, 128, AttentionParams, attention<f16, 256>)
BC_ENTRY(compat_attention_bf16_64, 128, AttentionParams, attention<bf16, 64>)
BC_ENTRY(compat_attention_bf16_128, 128, AttentionParams, attention<bf16, 128>)
BC_ENTRY(compat_attention_bf16_256, 128, AttentionParams, attention<bf16, 256>)
BC_ENTRY(compat_attention_merge_f32, 256, AttentionParams, attention_merge<float>)
BC_ENTRY(compat_attention_merge_f16, 256, AttentionParams, attention_merge<f16>)
BC_ENTRY(compat_attention_merge_bf16, 256, AttentionParams, attention_merge<bf16>)
