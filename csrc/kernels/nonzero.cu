// nonzero in three steps: how many there are in each tile, how many before each tile, where each one is.
#include "kernels/elements.cuh"
#include "kernels/nonzero.cuh"

namespace blackwell_compat {

__device__ __forceinline__ bool any_bit(unsigned char value, unsigned long long mask) { return value & mask; }
__device__ __forceinline__ bool any_bit(unsigned short value, unsigned long long mask) { return value & mask; }
__device__ __forceinline__ bool any_bit(unsigned value, unsigned long long mask) { return value & mask; }
__device__ __forceinline__ bool any_bit(uint2 value, unsigned long long mask) {
  return (value.x & static_cast<unsigned>(mask)) | (value.y & static_cast<unsigned>(mask >> 32));
}
__device__ __forceinline__ bool any_bit(uint4 value, unsigned long long mask) {
  return any_bit(make_uint2(value.x, value.y), mask) | any_bit(make_uint2(value.z, value.w), mask);
}

template <int bytes>
__device__ __forceinline__ bool nonzero_at(const NonzeroParams& p, int64_t i) {
  return i < p.size && any_bit(static_cast<const Element<bytes>*>(p.from)[i], p.mask);
}

template <int bytes>
__device__ __forceinline__ void nonzero_count(const NonzeroParams& p) {
  BC_SHARED(shared);
  int* const of_warp = reinterpret_cast<int*>(shared);
  const int warp = threadIdx.x / 32;
  const int64_t begin = int64_t(blockIdx.x) * kNonzeroTile + threadIdx.x;
  int count = 0;
#pragma unroll 4
  for (int round = 0; round < kNonzeroRounds; ++round) {
    count += __popc(__ballot_sync(0xffffffffu, nonzero_at<bytes>(p, begin + round * kNonzeroThreads)));
  }
  if (threadIdx.x % 32 == 0) of_warp[warp] = count;
  __syncthreads();
  if (threadIdx.x) return;
  int64_t sum = 0;
  for (int i = 0; i < kNonzeroThreads / 32; ++i) sum += of_warp[i];
  p.counts[blockIdx.x] = sum;
}

// One block: each thread sums a stretch of tiles.
__device__ __forceinline__ void nonzero_sum(const NonzeroParams& p) {
  BC_SHARED(shared);
  int64_t* const sums = reinterpret_cast<int64_t*>(shared);
  const int64_t stretch = (p.tiles + kNonzeroThreads - 1) / kNonzeroThreads;
  const int64_t begin = min(p.tiles, threadIdx.x * stretch), end = min(p.tiles, begin + stretch);
  int64_t sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += p.counts[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  int64_t before = 0;
  for (unsigned i = 0; i < threadIdx.x; ++i) before += sums[i];
  for (int64_t i = begin; i < end; ++i) {
    const int64_t count = p.counts[i];
    p.counts[i] = before;
    before += count;
  }
  if (threadIdx.x == kNonzeroThreads - 1) p.counts[p.tiles] = before;
}

template <int bytes>
__device__ __forceinline__ void nonzero_write(const NonzeroParams& p) {
  BC_SHARED(shared);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = kNonzeroThreads / 32;
  const int64_t begin = int64_t(blockIdx.x) * kNonzeroTile + threadIdx.x;
  int64_t before = p.counts[blockIdx.x];
  for (int round = 0; round < kNonzeroRounds; ++round) {
    const int64_t i = begin + round * kNonzeroThreads;
    const bool found = nonzero_at<bytes>(p, i);
    const unsigned all = __ballot_sync(0xffffffffu, found);
    int* const of_warp = reinterpret_cast<int*>(shared) + round % 2 * warps;
    if (lane == 0) of_warp[warp] = __popc(all);
    __syncthreads();
    int64_t at = before + __popc(all & ((1u << lane) - 1));
    for (int w = 0; w < warps; ++w) {
      before += of_warp[w];
      if (w < warp) at += of_warp[w];
    }
    if (!found) continue;
    int64_t rest = i;
    for (int d = p.dims - 1; d >= 0; --d) {
      const int64_t outer = d ? rest / p.sizes[d] : 0;
      p.to[d * p.total + at] = rest - outer * p.sizes[d];
      rest = outer;
    }
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_nonzero_sum, 256, NonzeroParams, nonzero_sum)
BC_ENTRY(compat_nonzero_count_b1, 256, NonzeroParams, nonzero_count<1>)
BC_ENTRY(compat_nonzero_count_b2, 256, NonzeroParams, nonzero_count<2>)
BC_ENTRY(compat_nonzero_count_b4, 256, NonzeroParams, nonzero_count<4>)
BC_ENTRY(compat_nonzero_count_b8, 256, NonzeroParams, nonzero_count<8>)
BC_ENTRY(compat_nonzero_count_b16, 256, NonzeroParams, nonzero_count<16>)
BC_ENTRY(compat_nonzero_write_b1, 256, NonzeroParams, nonzero_write<1>)
BC_ENTRY(compat_nonzero_write_b2, 256, NonzeroParams, nonzero_write<2>)
BC_ENTRY(compat_nonzero_write_b4, 256, NonzeroParams, nonzero_write<4>)
BC_ENTRY(compat_nonzero_write_b8, 256, NonzeroParams, nonzero_write<8>)
BC_ENTRY(compat_nonzero_write_b16, 256, NonzeroParams, nonzero_write<16>)
