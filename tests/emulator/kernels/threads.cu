// Built-ins that several threads take part in, each with results of its own in p.y.
#include "params.cuh"

using namespace blackwell_compat;

// p.x: for each of p.n calls its kind (idx, up, down, xor), operand and width. p.y: [call][lane], of values 100 + lane
TEST_KERNEL(test_shuffles) {
  const int lane = threadIdx.x;
  for (int i = 0; i < p.n; ++i) {
    const int* const call = static_cast<const int*>(p.x) + 3 * i;
    const int value = 100 + lane, operand = call[1], width = call[2];
    int result = 0;
    if (call[0] == 0) result = __shfl_sync(0xffffffffu, value, operand, width);
    if (call[0] == 1) result = __shfl_up_sync(0xffffffffu, value, operand, width);
    if (call[0] == 2) result = __shfl_down_sync(0xffffffffu, value, operand, width);
    if (call[0] == 3) result = __shfl_xor_sync(0xffffffffu, value, operand, width);
    static_cast<int*>(p.y)[i * 32 + lane] = result;
  }
}

// Each lane asks for a lane of its own; 8 and 4 bytes
TEST_KERNEL(test_shuffle_types) {
  const int lane = threadIdx.x;
  double* const out = static_cast<double*>(p.y) + 3 * lane;
  out[0] = __shfl_sync(0xffffffffu, 0.5 * lane, 31 - lane);
  out[1] = __shfl_sync(0xffffffffu, 0.25f * lane, lane * 7);
  out[2] = __shfl_sync(0xffffffffu, (1ll << 40) + lane, lane / 2);
}

// The halves of a warp go different ways, with masks of their own
TEST_KERNEL(test_votes) {
  const int lane = threadIdx.x;
  const int predicate = static_cast<const int*>(p.x)[lane];
  unsigned* const out = static_cast<unsigned*>(p.y) + 6 * lane;
  out[0] = __ballot_sync(0xffffffffu, predicate);
  out[1] = __any_sync(0xffffffffu, predicate);
  out[2] = __all_sync(0xffffffffu, predicate);
  if (lane < 16) {
    out[3] = __ballot_sync(0x0000ffffu, predicate);
    out[4] = __any_sync(0x0000ffffu, predicate);
    out[5] = __all_sync(0x0000ffffu, predicate);
  } else {
    out[5] = __all_sync(0xffff0000u, predicate);
    out[4] = __any_sync(0xffff0000u, predicate);
    out[3] = __ballot_sync(0xffff0000u, predicate);
  }
}

TEST_KERNEL(test_barriers) {
  const int predicate = static_cast<const int*>(p.x)[threadIdx.x];
  int* const out = static_cast<int*>(p.y) + 3 * threadIdx.x;
  out[0] = __syncthreads_count(predicate);
  out[1] = __syncthreads_or(predicate);
  out[2] = __syncthreads_and(predicate);
}

// Results at p.y in shared and global memory: what n threads leave; and that each got another value of the counter
TEST_KERNEL(test_atomics) {
  BC_SHARED(memory);
  int* const shared = reinterpret_cast<int*>(memory);
  int* const out = static_cast<int*>(p.y);
  const int i = threadIdx.x;
  if (i < 4) shared[i] = 0;
  __syncthreads();
  atomicAdd(&shared[0], i);
  __threadfence_block();
  atomicMax(&shared[1], i);
  atomicMin(&shared[2], -i);
  out[16 + atomicAdd(&shared[3], 1)] = 1;
  __syncthreads();
  if (i < 4) out[i] = shared[i];
  atomicAdd(reinterpret_cast<float*>(out) + 4, 0.5f);
  atomicAdd(reinterpret_cast<unsigned*>(out) + 5, 2u);
  atomicAdd(reinterpret_cast<unsigned long long*>(out) + 3, 1ull << 32);
  atomicOr(&out[8], 1 << i % 8);
  atomicXor(&out[9], i);
  atomicCAS(&out[10], 0, i + 1);
  atomicExch(&out[11], 7);
#if __CUDA_ARCH__ >= 600
  atomicAdd(reinterpret_cast<double*>(out) + 6, 0.25);
#endif
}
