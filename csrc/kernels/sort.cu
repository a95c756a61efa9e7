// Short rows by a bitonic network in shared memory, longer ones by passes over digits of the keys, the least one first. Both sort
// keys of whole numbers with the places of the elements, by which the values are read at the end.
#include "kernels/elements.cuh"
#include "kernels/sort.cuh"
#include "kernels/steps.cuh"

namespace blackwell_compat {

using Key = unsigned long long;

// As whole numbers of so many bits, which are in order where the floating-point numbers are; NaN is the last
__device__ __forceinline__ Key ordered(Key bits, int width) {
  const Key sign = Key(1) << (width - 1), all = (sign - 1) | sign;
  const int mantissa = width == 64 ? 52 : width == 32 ? 23 : 10;
  const Key infinity = (sign - 1) ^ ((Key(1) << mantissa) - 1);
  if ((bits & ~sign) > infinity) return all;
  if (bits == sign) return sign;  // -0.0 is 0.0
  return bits & sign ? ~bits & all : bits | sign;
}

__device__ __forceinline__ Key key_at(const SortParams& p, int64_t at) {
  Key key = 0;
  int width = 32;
  switch (p.kind) {
    case ScalarKind::kFloat:
      key = ordered(static_cast<const unsigned*>(p.from)[at], 32);
      break;
    case ScalarKind::kDouble:
      key = ordered(static_cast<const Key*>(p.from)[at], width = 64);
      break;
    case ScalarKind::kHalf:
      key = ordered(static_cast<const unsigned short*>(p.from)[at], width = 16);
      break;
    case ScalarKind::kBFloat16:
      key = ordered(Key(static_cast<const unsigned short*>(p.from)[at]) << 16, 32) >> 16;
      width = 16;
      break;
    case ScalarKind::kByte:
      key = static_cast<const unsigned char*>(p.from)[at];
      width = 8;
      break;
    case ScalarKind::kChar:
      key = static_cast<const unsigned char*>(p.from)[at] ^ 0x80u;
      width = 8;
      break;
    case ScalarKind::kShort:
      key = static_cast<const unsigned short*>(p.from)[at] ^ 0x8000u;
      width = 16;
      break;
    case ScalarKind::kInt:
      key = static_cast<const unsigned*>(p.from)[at] ^ 0x80000000u;
      break;
    default:
      key = static_cast<const Key*>(p.from)[at] ^ Key(1) << 63;
      width = 64;
  }
  return p.descending ? ~key & (~Key(0) >> (64 - width)) : key;
}

__device__ __forceinline__ Key key_of_nan(const SortParams& p) {
  return p.kind == ScalarKind::kFloat ? 0xffffffffu : p.kind == ScalarKind::kDouble ? ~Key(0) : 0xffffu;
}

__device__ __forceinline__ bool has_nan(const SortParams& p) { return p.kind <= ScalarKind::kBFloat16; }

struct Row {
  int64_t from, to;
  __device__ __forceinline__ Row(const SortParams& p, unsigned row) : from(0), to(0) {
    each_step(row, p.sizes, kSortDims, [&](int d, unsigned step) {
      from += step * p.strides[d];
      to += step * p.to_strides[d];
    });
  }
};

// The element of a row that was at `place` becomes the one at `at` of the results.
__device__ __forceinline__ void write(const SortParams& p, const Row& row, unsigned place, unsigned at) {
  const int64_t from = row.from + place * p.stride, to = row.to + at * p.to_stride;
  if (p.indices) p.indices[to] = place;
  if (!p.values) return;
  switch (p.kind) {
    case ScalarKind::kByte:
    case ScalarKind::kChar:
      static_cast<unsigned char*>(p.values)[to] = static_cast<const unsigned char*>(p.from)[from];
      break;
    case ScalarKind::kHalf:
    case ScalarKind::kBFloat16:
    case ScalarKind::kShort:
      static_cast<unsigned short*>(p.values)[to] = static_cast<const unsigned short*>(p.from)[from];
      break;
    case ScalarKind::kFloat:
    case ScalarKind::kInt:
      static_cast<unsigned*>(p.values)[to] = static_cast<const unsigned*>(p.from)[from];
      break;
    default:
      static_cast<Key*>(p.values)[to] = static_cast<const Key*>(p.from)[from];
  }
}

// Where the median is, in a row that is sorted upwards; the first NaN of one that has any, unless they do not count
template <typename K>
__device__ __forceinline__ unsigned median_of(const SortParams& p, const K* keys) {
  unsigned numbers = p.size;
  if (has_nan(p)) {
    unsigned low = 0, high = p.size;
    while (low < high) {
      const unsigned middle = (low + high) / 2;
      if (keys[middle] < key_of_nan(p)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    numbers = low;
  }
  if (p.pick == SortPick::kMedian && numbers < p.size) return numbers;
  return numbers ? (numbers - 1) / 2 : 0;
}

// Elements are threadIdx.x, threadIdx.x + kSortThreads, ... of the rows of a block, one row after the other.
__device__ __forceinline__ void sort_small(const SortParams& p) {
  BC_SHARED(shared);
  Key* const keys = reinterpret_cast<Key*>(shared);
  unsigned* const places = reinterpret_cast<unsigned*>(keys + kSortSmall);
  const unsigned all = p.padded * p.rows_of_block, first_row = blockIdx.x * p.rows_of_block;
  for (unsigned i = threadIdx.x; i < all; i += kSortThreads) {
    const unsigned row = first_row + i / p.padded, at = i % p.padded;
    const bool there = row < p.rows && at < p.size;
    keys[i] = there ? key_at(p, Row(p, row).from + at * p.stride) : ~Key(0);
    places[i] = there ? at : ~0u;
  }
  for (unsigned size = 2; size <= p.padded; size *= 2) {
    for (unsigned apart = size / 2; apart > 0; apart /= 2) {
      __syncthreads();
      for (unsigned pair = threadIdx.x; pair < all / 2; pair += kSortThreads) {
        const unsigned a = pair / apart * apart * 2 + pair % apart, b = a + apart;
        const bool upwards = (a % p.padded & size) == 0;
        const Key first = keys[a], second = keys[b];
        const unsigned first_place = places[a], second_place = places[b];
        const bool more = first > second || (first == second && first_place > second_place);
        if (more != upwards) continue;
        keys[a] = second, keys[b] = first;
        places[a] = second_place, places[b] = first_place;
      }
    }
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < p.kept * p.rows_of_block; i += kSortThreads) {
    const unsigned of_block = i / p.kept, at = i % p.kept, row = first_row + of_block;
    if (row >= p.rows) return;
    const unsigned begin = of_block * p.padded, first = p.pick == SortPick::kRange ? p.first : median_of(p, keys + begin);
    write(p, Row(p, row), places[begin + first + at], at);
  }
}

template <typename K>
__device__ __forceinline__ void sort_begin(const SortParams& p) {
  const unsigned i = blockIdx.x * kSortThreads + threadIdx.x;
  if (i >= p.rows * p.size) return;
  const unsigned row = i / p.size, at = i - row * p.size;
  static_cast<K*>(p.keys_to)[i] = static_cast<K>(key_at(p, Row(p, row).from + at * p.stride));
  p.places_to[i] = at;
}

template <typename K>
__device__ __forceinline__ void sort_count(const SortParams& p) {
  BC_SHARED(shared);
  unsigned* const counts = reinterpret_cast<unsigned*>(shared);
  counts[threadIdx.x] = 0;
  __syncthreads();
  const unsigned row = blockIdx.x / p.tiles, tile = blockIdx.x - row * p.tiles;
  const K* const keys = static_cast<const K*>(p.keys) + int64_t(row) * p.size;
#pragma unroll
  for (unsigned i = 0; i < kSortTile; i += kSortThreads) {
    const unsigned at = tile * kSortTile + i + threadIdx.x;
    if (at < p.size) atomicAdd(&counts[keys[at] >> p.shift & (kSortDigits - 1)], 1u);
  }
  __syncthreads();
  p.counts[int64_t(blockIdx.x) * kSortDigits + threadIdx.x] = counts[threadIdx.x];
}

// Counts of a row, a block each, become where elements of a digit and tile begin.
__device__ __forceinline__ void sort_sum(const SortParams& p) {
  BC_SHARED(shared);
  unsigned* const sums = reinterpret_cast<unsigned*>(shared);
  unsigned* const counts = p.counts + int64_t(blockIdx.x) * p.tiles * kSortDigits + threadIdx.x;
  unsigned sum = 0;
#pragma unroll 8
  for (unsigned tile = 0; tile < p.tiles; ++tile) sum += counts[tile * kSortDigits];
  sums[threadIdx.x] = sum;
  for (unsigned apart = 1; apart < kSortDigits; apart *= 2) {
    __syncthreads();
    const unsigned before = threadIdx.x >= apart ? sums[threadIdx.x - apart] : 0;
    __syncthreads();
    sums[threadIdx.x] += before;
  }
  unsigned begin = sums[threadIdx.x] - sum;
  for (unsigned tile = 0; tile < p.tiles; ++tile) {
    const unsigned count = counts[tile * kSortDigits];
    counts[tile * kSortDigits] = begin;
    begin += count;
  }
}

// A warp has a stretch of the tile, 32 elements at a time.
template <typename K>
__device__ __forceinline__ void sort_move(const SortParams& p) {
  BC_SHARED(shared);
  unsigned* const counts = reinterpret_cast<unsigned*>(shared);
  constexpr int kWarps = kSortThreads / 32, kTurns = kSortTile / kSortThreads;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int w = 0; w < kWarps; ++w) counts[w * kSortDigits + threadIdx.x] = 0;
  __syncthreads();
  const unsigned row = blockIdx.x / p.tiles, tile = blockIdx.x - row * p.tiles;
  const unsigned begin = tile * kSortTile + warp * 32 * kTurns + lane;
  const int64_t of_row = int64_t(row) * p.size;
  unsigned* const mine = counts + warp * kSortDigits;
  K keys[kTurns];
  unsigned ranks[kTurns];
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const unsigned at = begin + turn * 32;
    const bool there = at < p.size;
    keys[turn] = there ? static_cast<const K*>(p.keys)[of_row + at] : K(0);
    const unsigned digit = static_cast<unsigned>(keys[turn] >> p.shift) & (kSortDigits - 1);
    unsigned same = __ballot_sync(0xffffffffu, there);
#pragma unroll
    for (int bit = 0; bit < 8; ++bit) {
      const unsigned set = __ballot_sync(0xffffffffu, digit >> bit & 1);
      same &= digit >> bit & 1 ? set : ~set;
    }
    const unsigned before = __popc(same & ((1u << lane) - 1));
    ranks[turn] = mine[digit] + before;
    __syncwarp();
    if (there && before == 0) mine[digit] += __popc(same);
    __syncwarp();
  }
  __syncthreads();
  unsigned sum = p.counts[int64_t(blockIdx.x) * kSortDigits + threadIdx.x];
  for (int w = 0; w < kWarps; ++w) {
    const unsigned count = counts[w * kSortDigits + threadIdx.x];
    counts[w * kSortDigits + threadIdx.x] = sum;
    sum += count;
  }
  __syncthreads();
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const unsigned at = begin + turn * 32;
    if (at >= p.size) break;
    const int64_t to = of_row + mine[static_cast<unsigned>(keys[turn] >> p.shift) & (kSortDigits - 1)] + ranks[turn];
    static_cast<K*>(p.keys_to)[to] = keys[turn];
    p.places_to[to] = p.places[of_row + at];
  }
}

template <typename K>
__device__ __forceinline__ void sort_end(const SortParams& p) {
  const unsigned i = blockIdx.x * kSortThreads + threadIdx.x;
  if (i >= p.rows * p.kept) return;
  const unsigned row = i / p.kept, at = i - row * p.kept;
  const int64_t of_row = int64_t(row) * p.size;
  const unsigned first = p.pick == SortPick::kRange ? p.first : median_of(p, static_cast<const K*>(p.keys) + of_row);
  write(p, Row(p, row), p.places[of_row + first + at], at);
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_sort_small, 256, SortParams, sort_small)
BC_ENTRY(compat_sort_begin_b4, 256, SortParams, sort_begin<unsigned>)
BC_ENTRY(compat_sort_begin_b8, 256, SortParams, sort_begin<Key>)
BC_ENTRY(compat_sort_count_b4, 256, SortParams, sort_count<unsigned>)
BC_ENTRY(compat_sort_count_b8, 256, SortParams, sort_count<Key>)
BC_ENTRY(compat_sort_sum, 256, SortParams, sort_sum)
BC_ENTRY(compat_sort_move_b4, 256, SortParams, sort_move<unsigned>)
BC_ENTRY(compat_sort_move_b8, 256, SortParams, sort_move<Key>)
BC_ENTRY(compat_sort_end_b4, 256, SortParams, sort_end<unsigned>)
BC_ENTRY(compat_sort_end_b8, 256, SortParams, sort_end<Key>)
