// attention of at most 16 rows by tensor cores: warps take turns along the keys, each with its own softmax and its own copies on
// the way, so that nothing but memory holds them up; at last the block puts the warps' sums together.
#pragma once
#include "kernels/attention_mma.cuh"
#include "kernels/attention_softmax.cuh"

namespace blackwell_compat {

// Where a warp's sums stand in shared memory: 8 rows by 8 columns lie in all banks
template <int kWidth>
__device__ __forceinline__ int sum_at(int row, int column) {
  return row * kWidth + (column ^ row % 8 * 8);
}

template <typename T, int kWidth>
__device__ __forceinline__ void few_rows(const AttentionParams& p) {
  constexpr int kRows = attention_rows(AttentionKind::kFew, kWidth, sizeof(T), kTilesFor);
  constexpr int kTileKeys = attention_keys(AttentionKind::kFew, kWidth, sizeof(T), kTilesFor),
                kKeys = kTileKeys / kAttentionWarps;
  using Tile = MmaBands<T, kWidth, kRows / 16, kKeys>;
  using Lines = typename Tile::Lines;
  static_assert(kRows * kWidth * sizeof(float) == 2 * kKeys * Lines::kSize * sizeof(T), "sums take the place of keys and values");
  BC_SHARED(shared);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  T* const queries = reinterpret_cast<T*>(shared);
  T* const of_warps = queries + kRows * Lines::kSize;
  T* const keys = of_warps + warp * 2 * kKeys * Lines::kSize;
  T* const values = keys + kKeys * Lines::kSize;
  float* const statistics = reinterpret_cast<float*>(of_warps + kAttentionWarps * 2 * kKeys * Lines::kSize);

  using Block = AttentionBlock<true>;
  const Block block(p, kRows);
  const int end = block.end;
  using OfWarp = Rows<Lines, 32, kKeys, T>;
  const OfWarp key(lane, block.keys<T>(), p.key_row, p.key_column, p.width, p.vectors);
  const OfWarp value(lane, block.values<T>(), p.value_row, p.value_column, p.width, p.vectors);
  const auto load = [&](const OfWarp& from, T* to, int first) {
    if (first >= end) return async_commit();
    from.load(to, first, end - first);
  };
  load_rows<Lines, kAttentionThreads, kRows>(
      queries, threadIdx.x, [&](int row) { return block.query<T>(row); }, p.query_column, block.rows, p.width, p.vectors);
  const int own_begin = block.begin + warp * kKeys;
  load(key, keys, own_begin);
  load(value, values, own_begin);
  async_wait<2>();
  __syncthreads();

  Tile tile;
  const Masks<T, Tile, true, Block> masks(block, 0);
  Softmax<Tile> softmax;
  for (int first = own_begin; first < end; first += kTileKeys) {
    async_wait<1>();
    __syncwarp();
    tile.multiply_keys(queries, keys);
    __syncwarp();
    load(key, keys, first + kTileKeys);
    masks.apply(tile, first);
    softmax.update(tile, masks.factor);
    async_wait<1>();
    __syncwarp();
    tile.multiply_values(values);
    __syncwarp();
    load(value, values, first + kTileKeys);
  }
  async_wait<0>();
  __syncwarp();
  softmax.end();

  float* const sums = reinterpret_cast<float*>(keys);
#pragma unroll
  for (int i = 0; i < Tile::kOwnRows; ++i) {
    const int row = Tile::own_row(i);
    if (lane % Tile::kLanes == 0) {
      statistics[2 * (warp * kRows + row)] = softmax.largest[i] * masks.factor;
      statistics[2 * (warp * kRows + row) + 1] = softmax.total[i];
    }
#pragma unroll
    for (int c = 0; c < Tile::kOwnColumns; ++c) sums[sum_at<kWidth>(row, Tile::column(c))] = tile.sum(i, c);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < block.rows * kWidth; i += kAttentionThreads) {
    const int row = i / kWidth, column = i % kWidth;
    if (column >= p.width) continue;
    float largest = no_score(), sum = 0, total = 0;
#pragma unroll
    for (int w = 0; w < kAttentionWarps; ++w) largest = fmaxf(largest, statistics[2 * (w * kRows + row)]);
    const float origin = largest == no_score() ? 0 : largest;
#pragma unroll
    for (int w = 0; w < kAttentionWarps; ++w) {
      const float weight = power_of_2(statistics[2 * (w * kRows + row)] - origin);
      const float* const of_warp = reinterpret_cast<const float*>(of_warps + w * 2 * kKeys * Lines::kSize);
      sum += weight * of_warp[sum_at<kWidth>(row, column)], total += weight * statistics[2 * (w * kRows + row) + 1];
    }
    if (p.partial) {
      const int64_t part = block.part(row);
      p.partial[part * p.width + column] = sum;
      if (column == 0) p.partial_sums[2 * part] = largest, p.partial_sums[2 * part + 1] = total;
    } else {
      block.out<T>(row)[column] = Convert<T>::from(total == 0 ? p.of_no_keys : sum / total);
    }
  }
}

}  // namespace blackwell_compat
