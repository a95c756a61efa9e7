// attention: a block takes some queries of a head and goes over its keys and values once, tile by tile, with the softmax of what
// it has seen so far. The same bits from the same inputs, whatever runs beside.
#include "kernels/attention_few.cuh"
#include "kernels/attention_mma.cuh"
#include "kernels/attention_simt.cuh"
#include "kernels/attention_softmax.cuh"
#include "kernels/gemm_product.cuh"

namespace blackwell_compat {

template <typename T, int kWidth, AttentionKind kind, bool tensor_cores = kTensorCores<T> == 2>
struct AttentionTile {
  using type = SimtAttention<T, kWidth>;
};
template <typename T, int kWidth, AttentionKind kind>
struct AttentionTile<T, kWidth, kind, true> {
  using type = MmaAttention<T, kWidth, kind>;
};

template <typename T, int kWidth, AttentionKind kind>
__device__ __forceinline__ void attention(const AttentionParams& p) {
  using Tile = typename AttentionTile<T, kWidth, kind>::type;
  using Lines = typename Tile::Lines;
  constexpr int kRows = Tile::kRowsOfWarp * kAttentionWarps, kKeys = Tile::kKeys;
  BC_SHARED(shared);
  T* const queries = reinterpret_cast<T*>(shared);
  T* const keys = queries + kRows * Lines::kSize;
  T* const values = keys + kKeys * Lines::kSize;
  Tile tile(reinterpret_cast<unsigned char*>(values + kKeys * Lines::kSize));

  constexpr bool kTall = kind == AttentionKind::kTall;  // with one split, no mask and no heads that share keys in a block
  using Block = AttentionBlock<!kTall>;
  const Block block(p, kRows);
  const int begin = block.begin, end = block.end;
  using OfTile = Rows<Lines, kAttentionThreads, kKeys, T>;
  const OfTile key(threadIdx.x, block.template keys<T>(), p.key_row, p.key_column, p.width, p.vectors);
  const OfTile value(threadIdx.x, block.template values<T>(), p.value_row, p.value_column, p.width, p.vectors);
  load_rows<Lines, kAttentionThreads, kRows>(
      queries, threadIdx.x, [&](int row) { return block.template query<T>(row); }, p.query_column, block.rows, p.width,
      p.vectors);
  if (begin < end) key.load(keys, begin, end - begin);

  const int warp_row = threadIdx.x / 32 * Tile::kRowsOfWarp;
  const bool busy = warp_row < block.rows;  // all lanes of a warp alike
  const int warp_end = p.causal ? block.newest(warp_row, Tile::kRowsOfWarp) + 1 : end;
  T* const own_queries = queries + warp_row * Lines::kSize;
  const Masks<T, Tile, !kTall, Block> masks(block, warp_row);
  Softmax<Tile> softmax;
  for (int first = begin; first < end; first += kKeys) {
    const bool computes = busy && first < warp_end;
    async_wait<0>();
    __syncthreads();
    value.load(values, first, end - first);
    if (computes) tile.multiply_keys(own_queries, keys);
    async_wait<0>();
    __syncthreads();
    if (first + kKeys < end) key.load(keys, first + kKeys, end - first - kKeys);
    if (computes) {
      masks.apply(tile, first);
      softmax.update(tile, masks.factor);
      tile.multiply_values(values);
    }
  }
  async_wait<0>();
  if (!busy) return;
  softmax.end();

  if (!kTall && p.partial) {
#pragma unroll
    for (int i = 0; i < Tile::kOwnRows; ++i) {
      const int row = warp_row + Tile::own_row(i);
      if (row >= block.rows) continue;
      const int64_t part = block.part(row);
      if (threadIdx.x % Tile::kLanes == 0) {
        p.partial_sums[2 * part] = softmax.largest[i] * masks.factor, p.partial_sums[2 * part + 1] = softmax.total[i];
      }
#pragma unroll
      for (int c = 0; c < Tile::kOwnColumns; ++c) {
        if (tile.column(c) < p.width) p.partial[part * p.width + tile.column(c)] = tile.sum(i, c);
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
      own_queries[Lines::at(Tile::own_row(i), tile.column(c))] = Convert<T>::from(result);
    }
  }
  __syncwarp();
  constexpr int kPiece = Lines::kPiece, kPieces = kWidth / kPiece;
  for (int piece = threadIdx.x % 32; piece < Tile::kRowsOfWarp * kPieces; piece += 32) {
    const int row = piece / kPieces, column = piece % kPieces * kPiece;
    if (warp_row + row >= block.rows) break;
    const T* const from = own_queries + Lines::at(row, column);
    T* const to = block.template out<T>(warp_row + row) + column;
    if (p.vectors && column < p.width) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int e = 0; e < min(kPiece, p.width - column); ++e) to[e] = from[e];
    }
  }
}

template <typename T, int kWidth>
__device__ __forceinline__ void attention_few(const AttentionParams& p) {
  if constexpr (kTensorCores<T> == 2) {
    few_rows<T, kWidth>(p);
  } else {
    attention<T, kWidth, AttentionKind::kPlain>(p);
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
    const float weight = power_of_2(p.partial_sums[2 * at] - origin);
    sum += weight * p.partial[at * p.width + column], total += weight * p.partial_sums[2 * at + 1];
  }
  const int64_t head = result / p.queries % p.heads, batch = result / p.queries / p.heads;
  static_cast<T*>(p.out)[batch * p.out_batch + head * p.out_head + result % p.queries * p.out_row + column] =
      Convert<T>::from(total == 0 ? p.of_no_keys : sum / total);
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_attention_f32_64, 128, AttentionParams, attention<float, 64, AttentionKind::kPlain>)
BC_ENTRY(compat_attention_f32_128, 128, AttentionParams, attention<float, 128, AttentionKind::kPlain>)
BC_ENTRY(compat_attention_f32_256, 128, AttentionParams, attention<float, 256, AttentionKind::kPlain>)
BC_ENTRY(compat_attention_f16_64, 128, AttentionParams, attention<f16, 64, AttentionKind::kBand>)
BC_ENTRY(compat_attention_f16_64_tall, 128, AttentionParams, attention<f16, 64, AttentionKind::kTall>)
BC_ENTRY(compat_attention_f16_64_few, 128, AttentionParams, attention_few<f16, 64>)
BC_ENTRY(compat_attention_f16_128, 128, AttentionParams, attention<f16, 128, AttentionKind::kBand>)
BC_ENTRY(compat_attention_f16_128_tall, 128, AttentionParams, attention<f16, 128, AttentionKind::kTall>)
BC_ENTRY(compat_attention_f16_128_few, 128, AttentionParams, attention_few<f16, 128>)
BC_ENTRY(compat_attention_f16_256, 128, AttentionParams, attention<f16, 256, AttentionKind::kBand>)
BC_ENTRY(compat_attention_f16_256_few, 128, AttentionParams, attention_few<f16, 256>)
BC_ENTRY(compat_attention_bf16_64, 128, AttentionParams, attention<bf16, 64, AttentionKind::kBand>)
BC_ENTRY(compat_attention_bf16_64_tall, 128, AttentionParams, attention<bf16, 64, AttentionKind::kTall>)
BC_ENTRY(compat_attention_bf16_64_few, 128, AttentionParams, attention_few<bf16, 64>)
BC_ENTRY(compat_attention_bf16_128, 128, AttentionParams, attention<bf16, 128, AttentionKind::kBand>)
BC_ENTRY(compat_attention_bf16_128_tall, 128, AttentionParams, attention<bf16, 128, AttentionKind::kTall>)
BC_ENTRY(compat_attention_bf16_128_few, 128, AttentionParams, attention_few<bf16, 128>)
BC_ENTRY(compat_attention_bf16_256, 128, AttentionParams, attention<bf16, 256, AttentionKind::kBand>)
BC_ENTRY(compat_attention_bf16_256_few, 128, AttentionParams, attention_few<bf16, 256>)
BC_ENTRY(compat_attention_merge_f32, 256, AttentionParams, attention_merge<float>)
BC_ENTRY(compat_attention_merge_f16, 256, AttentionParams, attention_merge<f16>)
BC_ENTRY(compat_attention_merge_bf16, 256, AttentionParams, attention_merge<bf16>)
