// Each kernel does one thing wrong; the comments name the lines that test_faults.py wants in the report.
#include "params.cuh"

using namespace blackwell_compat;

namespace blackwell_compat {

__device__ float* shared_floats() {
  BC_SHARED(memory);
  return reinterpret_cast<float*>(memory);
}
__device__ const float* input(const TestParams& p) { return static_cast<const float*>(p.x); }
__device__ float* output(const TestParams& p) { return static_cast<float*>(p.y); }

}  // namespace blackwell_compat

TEST_KERNEL(fault_no_barrier) {
  const int i = threadIdx.x;
  shared_floats()[i] = 0;
  __syncthreads();
  shared_floats()[i] = input(p)[i];        // line: written
  output(p)[i] = shared_floats()[i ^ 32];  // line: read
}

TEST_KERNEL(fault_no_barrier_before_write) {
  const int i = threadIdx.x;
  shared_floats()[i] = input(p)[i];
  __syncthreads();
  const float other = shared_floats()[63 - i];  // line: still read
  shared_floats()[i] = 2 * other;               // line: written over
  __syncthreads();
  output(p)[i] = shared_floats()[i];
}

// p.n: whether the lanes wait for each other
TEST_KERNEL(fault_no_syncwarp) {
  const int lane = threadIdx.x;
  shared_floats()[lane] = 0;
  __syncthreads();
  shared_floats()[lane] = input(p)[lane];  // line: lane wrote
  if (p.n) __syncwarp();
  output(p)[lane] = shared_floats()[lane ^ 1];  // line: lane read
}

// A shuffle lets the lanes meet, and orders nothing
TEST_KERNEL(fault_shuffle_for_syncwarp) {
  const int lane = threadIdx.x;
  shared_floats()[lane] = 0;
  __syncthreads();
  shared_floats()[lane] = input(p)[lane];  // line: wrote before the shuffle
  const float one = __shfl_xor_sync(0xffffffffu, 1.f, 1);
  output(p)[lane] = one * shared_floats()[lane ^ 1];  // line: read behind it
}

// Pairs of lanes wait for each other, then other pairs read
TEST_KERNEL(fault_pairs) {
  const int lane = threadIdx.x;
  shared_floats()[lane] = 0;
  __syncthreads();
  shared_floats()[lane] = input(p)[lane];  // line: pair wrote
  __syncwarp(3u << (lane & ~1));
  output(p)[lane] = shared_floats()[lane ^ p.n];  // line: pair read
}

TEST_KERNEL(fault_two_writers) {
  shared_floats()[threadIdx.x / 2] = input(p)[threadIdx.x];  // line: both write
}

TEST_KERNEL(fault_atomic_and_read) {
  if (threadIdx.x == 0) shared_floats()[0] = 0;
  __syncthreads();
  atomicAdd(shared_floats(), 1.f);                           // line: added
  if (threadIdx.x == 40) output(p)[0] = shared_floats()[0];  // line: read early
}

TEST_KERNEL(fault_barrier_in_branch) {
  if (threadIdx.x < 32) {
    __syncthreads();  // line: first half
    output(p)[threadIdx.x] = 1;
  } else {
    __syncthreads();  // line: second half
  }
}

TEST_KERNEL(fault_barrier_after_return) {
  if (static_cast<int>(threadIdx.x) >= p.n) return;
  __syncthreads();  // line: alone
}

TEST_KERNEL(fault_write_at) { output(p)[p.n] = input(p)[0]; }  // line: write at
TEST_KERNEL(fault_read_at) { output(p)[0] = input(p)[p.n]; }   // line: read at

TEST_KERNEL(fault_misaligned) {
  *reinterpret_cast<float4*>(output(p) + p.n) = make_float4(1, 2, 3, 4);  // line: misaligned
}

TEST_KERNEL(fault_misaligned_shared) {
  output(p)[0] = reinterpret_cast<float2*>(shared_floats() + 1)->x;  // line: misaligned in shared
}

TEST_KERNEL(fault_unwritten) {
  if (threadIdx.x < 63) shared_floats()[threadIdx.x] = input(p)[threadIdx.x];
  __syncthreads();
  output(p)[threadIdx.x] = shared_floats()[threadIdx.x];  // line: unwritten
}

TEST_KERNEL(fault_past_shared) { shared_floats()[threadIdx.x] = 0; }  // line: past shared

// p.n: 0 no wait, 1 wait without a barrier, 2 right
TEST_KERNEL(fault_async) {
  const int i = threadIdx.x;
  BC_SHARED(memory);
  for (int j = 0; j < 4; ++j) shared_floats()[4 * i + j] = 0;
  __syncthreads();
  async_copy_16(memory + i * 16, input(p) + i * 4, true);  // line: copied
  async_commit();
  if (p.n) async_wait<0>();
  if (p.n == 2) __syncthreads();
  output(p)[i] = shared_floats()[4 * (p.n ? i ^ 1 : i)];  // line: copy read
}

TEST_KERNEL(fault_async_not_committed) {
  BC_SHARED(memory);
  async_copy_16(memory, input(p), true);
  async_wait<0>();
  output(p)[0] = shared_floats()[0];
}

TEST_KERNEL(fault_async_overwritten) {
  BC_SHARED(memory);
  async_copy_16(memory, input(p), true);  // line: under way
  shared_floats()[3] = 0;                 // line: overwritten
}

TEST_KERNEL(fault_async_unaligned) {
  BC_SHARED(memory);
  async_copy_16(memory + p.n / 16 * 4, input(p) + p.n % 16, true);  // line: unaligned
}

TEST_KERNEL(fault_async_past_end) {
  BC_SHARED(memory);
  async_copy_16(memory, input(p) + 4, p.n > 0);  // line: from past the end
  async_commit();
  async_wait<0>();
  output(p)[0] = shared_floats()[0];
}

TEST_KERNEL(fault_matrices_unaligned) {
  BC_SHARED(memory);
  unsigned r[4];
  load_matrices<false>(r, memory + 8);  // line: row at 8
}

TEST_KERNEL(fault_matrices_global) {
  unsigned r[4];
  load_matrices<false>(r, p.x);  // line: row elsewhere
}

TEST_KERNEL(fault_lane_returned) {
  if (threadIdx.x == 7) return;                                   // before or after the others come to:
  output(p)[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.f, 1);  // line: shuffle
}

TEST_KERNEL(fault_not_named) { __syncwarp(0xffu); }  // line: not named

TEST_KERNEL(fault_reads_unnamed) {
  if (threadIdx.x < 16) output(p)[threadIdx.x] = __shfl_sync(0xffffu, 1.f, 20);  // line: unnamed
}

TEST_KERNEL(fault_two_shuffles) {
  float value = 1;
  if (threadIdx.x < 16)
    value = __shfl_xor_sync(0xffffffffu, value, 1);  // line: one shuffle
  else
    value = __shfl_xor_sync(0xffffffffu, value, 1);  // line: other shuffle
  output(p)[threadIdx.x] = value;
}

TEST_KERNEL(fault_shuffle_and_barrier) {
  if (threadIdx.x < 16)
    output(p)[0] = __shfl_xor_sync(0xffffffffu, 1.f, 1);  // line: waits for ever
  else
    __syncthreads();  // line: as does this
}

TEST_KERNEL(fault_divide) { static_cast<int*>(p.y)[0] = 7 / p.n; }  // line: divide

namespace blackwell_compat {
__device__ __noinline__ int deeper(const TestParams& p, int depth) {
  volatile int room[256];
  room[depth % 256] = depth;
  return depth < p.n ? deeper(p, depth + 1) + room[depth % 256] : 0;
}
}  // namespace blackwell_compat
TEST_KERNEL(fault_deep) { static_cast<int*>(p.y)[0] = deeper(p, 0); }

TEST_KERNEL(fault_trap) {
  if (threadIdx.x == 3) __trap();
}

TEST_KERNEL(fault_copy_struct) {
  struct Row {
    float values[35];
  };
  *reinterpret_cast<Row*>(output(p)) = *reinterpret_cast<const Row*>(input(p));  // line: struct
}
