// What tests/card launches as well.
#include "params.cuh"

using namespace blackwell_compat;

TEST_KERNEL(test_add_one) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < p.n) static_cast<float*>(p.y)[i] = static_cast<const float*>(p.x)[i] + 1;
}

TEST_KERNEL(test_block_sum) {
  BC_SHARED(memory);
  float* const part = reinterpret_cast<float*>(memory);
  float sum = 0;
  for (int i = threadIdx.x; i < p.n; i += blockDim.x) sum += static_cast<const float*>(p.x)[i];
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (int i = 0; i < static_cast<int>(blockDim.x) / 32; ++i) sum += part[i];
    static_cast<float*>(p.y)[0] = sum;
  }
}

TEST_KERNEL(test_arch) { *static_cast<int*>(p.y) = __CUDA_ARCH__; }

// Of every thread of the grid, its index, its block's and both sizes: 12 numbers
TEST_KERNEL(test_indices) {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  unsigned* const out = static_cast<unsigned*>(p.y) + (block * threads + thread) * 12;
  out[0] = threadIdx.x, out[1] = threadIdx.y, out[2] = threadIdx.z;
  out[3] = blockIdx.x, out[4] = blockIdx.y, out[5] = blockIdx.z;
  out[6] = blockDim.x, out[7] = blockDim.y, out[8] = blockDim.z;
  out[9] = gridDim.x, out[10] = gridDim.y, out[11] = gridDim.z;
}
