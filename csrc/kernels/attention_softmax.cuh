// The softmax over keys that come tile by tile, for tiles of any arithmetic.
#pragma once
#include "kernels/attention.cuh"
#include "kernels/platform.cuh"

namespace blackwell_compat {

constexpr float kLog2e = 1.44269504088896341f;

__device__ __forceinline__ float no_score() { return __uint_as_float(0xff800000u); }  // minus infinity

// What a mask adds, in powers of two. Models hide keys by the least float, too, and of a query that sees no other they take the
// mean: it must not become minus infinity.
__device__ __forceinline__ float in_powers_of_two(float mask) {
  const float power = mask * kLog2e;
  return power == no_score() && mask != no_score() ? -3.402823466e38f : power;
}

// Which of the query's rows a block has, and keys. `folds`: whether rows of several heads may be among them
template <bool folds>
struct AttentionBlock {
  const AttentionParams& p;
  int split, first_row, rows, first_head;
  int64_t batch;
  int begin, end;  // of the keys

  __device__ __forceinline__ AttentionBlock(const AttentionParams& p, int most_rows) : p(p) {
    unsigned block = blockIdx.x;
    split = block % p.splits;
    block /= p.splits;
    first_row = (p.row_tiles - 1 - block % p.row_tiles) * most_rows;  // causal: the longest at first
    block /= p.row_tiles;
    const int units = p.heads / p.fold;
    first_head = block % units * p.fold;
    batch = block / units;
    rows = min(most_rows, p.queries * p.fold - first_row);
    begin = split * p.keys_per_split;
    end = min(min(p.keys, begin + p.keys_per_split), p.causal ? newest(0, rows) + 1 : p.keys);
  }

  __device__ __forceinline__ bool of_one_head() const { return !folds || p.fold == 1; }
  __device__ __forceinline__ int head_of(int row) const {
    return of_one_head() ? first_head : first_head + (first_row + row) / p.queries;
  }
  __device__ __forceinline__ int query_of(int row) const {
    return of_one_head() ? first_row + row : (first_row + row) % p.queries;
  }
  // Of the queries of `count` rows from `row` on
  __device__ __forceinline__ int oldest(int row) const { return of_one_head() ? first_row + row : 0; }
  __device__ __forceinline__ int newest(int row, int count) const {
    return of_one_head() ? first_row + min(row + count, rows) - 1 : p.queries - 1;
  }

  template <typename T>
  __device__ __forceinline__ const T* query(int row) const {
    return static_cast<const T*>(p.query) + batch * p.query_batch + head_of(row) * p.query_head + query_of(row) * p.query_row;
  }
  template <typename T>
  __device__ __forceinline__ const T* keys() const {
    return static_cast<const T*>(p.key) + batch * p.key_batch + first_head / p.group * p.key_head;
  }
  template <typename T>
  __device__ __forceinline__ const T* values() const {
    return static_cast<const T*>(p.value) + batch * p.value_batch + first_head / p.group * p.value_head;
  }
  template <typename T>
  __device__ __forceinline__ T* out(int row) const {
    return static_cast<T*>(p.out) + batch * p.out_batch + head_of(row) * p.out_head + query_of(row) * p.out_row;
  }
  // Where the split's part of a row's result stands
  __device__ __forceinline__ int64_t part(int row) const {
    return (batch * p.heads + head_of(row)) * p.queries + query_of(row) + split * p.results;
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

// A warp's rows with their masks. `T`: of an added mask, which there is only where `masked`
template <typename T, class Tile, bool masked, class Block>
class Masks {
 public:
  // Scores to powers of two, once they are masked
  const float factor;

  __device__ __forceinline__ Masks(const Block& block, int warp_row)
      : factor(at_once(block.p) ? block.p.scale * kLog2e : 1), block_(block), warp_row_(warp_row) {}

  // None beyond the keys and, where it is causal, the query's own
  __device__ __forceinline__ void apply(Tile& tile, int first_key) const {
    const AttentionParams& p = block_.p;
    const int end = block_.end, last = first_key + Tile::kKeys - 1;
    if (!at_once(p)) {
      const float scale = p.scale * kLog2e;
      each_score(tile, [&](float& score, int, int) { score *= scale; });
    }
    if (masked && p.mask) {
#pragma unroll
      for (int i = 0; i < Tile::kOwnRows; ++i) {
        mask_row(tile, i, first_key);
        __syncwarp();  // for the compiler: reads of all rows at once take too many registers
      }
    }
    if (last >= end || (p.causal && last > block_.oldest(warp_row_))) {
      int limit[Tile::kOwnRows];
#pragma unroll
      for (int i = 0; i < Tile::kOwnRows; ++i) limit[i] = p.causal ? min(end - 1, block_.query_of(row(i))) : end - 1;
      each_score(tile, [&](float& score, int i, int key) {
        if (first_key + key > limit[i]) score = no_score();
      });
    }
  }

 private:
  // Whether one product within the exponent scales the scores: their order has to stay
  static __device__ __forceinline__ bool at_once(const AttentionParams& p) { return !(masked && p.mask) && p.scale > 0; }

  __device__ __forceinline__ int row(int i) const { return min(warp_row_ + Tile::own_row(i), block_.rows - 1); }

  __device__ __forceinline__ void mask_row(Tile& tile, int i, int first_key) const {
    const AttentionParams& p = block_.p;
    const int64_t at = block_.batch * p.mask_batch + block_.head_of(row(i)) * p.mask_head + block_.query_of(row(i)) * p.mask_row;
#pragma unroll
    for (int j = 0; j < Tile::kOwnKeys; ++j) {
      const int key = first_key + tile.key(j);
      if (key >= block_.end) continue;
      if (p.mask_is_bool) {
        if (!static_cast<const unsigned char*>(p.mask)[at + key * p.mask_key]) tile.score(i, j) = no_score();
      } else {
        tile.score(i, j) += in_powers_of_two(to_float(static_cast<const T*>(p.mask)[at + key * p.mask_key]));
      }
    }
  }

  const Block& block_;
  const int warp_row_;
};

// The largest score of each of a lane's rows so far, and its part of the sums of their weights
template <class Tile>
struct Softmax {
  float largest[Tile::kOwnRows], total[Tile::kOwnRows] = {};

  __device__ __forceinline__ Softmax() {
#pragma unroll
    for (int i = 0; i < Tile::kOwnRows; ++i) largest[i] = no_score();
  }

  // Scores become weights, with `factor` times a score as the power of two.
  __device__ __forceinline__ void update(Tile& tile, float factor) {
    float shrunk[Tile::kOwnRows];
    bool shrinks = false;
#pragma unroll
    for (int i = 0; i < Tile::kOwnRows; ++i) {
      float most = largest[i];
#pragma unroll
      for (int j = 0; j < Tile::kOwnKeys; ++j) most = fmaxf(most, tile.score(i, j));
#pragma unroll
      for (int lanes = 1; lanes < Tile::kLanes; lanes *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, lanes));
      const float origin = most == no_score() ? 0 : most * factor;
      shrunk[i] = power_of_2(largest[i] * factor - origin);
      shrinks = shrinks || most != largest[i];
      largest[i] = most;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < Tile::kOwnKeys; ++j) {
        float& score = tile.score(i, j);
        score = power_of_2(score * factor - origin);
        sum += score;
      }
      total[i] = total[i] * shrunk[i] + sum;
    }
    if (!__any_sync(0xffffffffu, shrinks)) return;
#pragma unroll
    for (int i = 0; i < Tile::kOwnRows; ++i) {
#pragma unroll
      for (int c = 0; c < Tile::kOwnColumns; ++c) tile.sum(i, c) *= shrunk[i];
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

}  // namespace blackwell_compat
