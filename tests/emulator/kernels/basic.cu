#include "kernels/platform.cuh"

namespace blackwell_compat {

struct AddParams {
  const float* x;
  float* y;
  int n;
};
__device__ void add_one(const AddParams& p) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < p.n) p.y[i] = p.x[i] + 1;
}

__device__ void block_sum(const AddParams& p) {
  BC_SHARED(memory);
  float* part = reinterpret_cast<float*>(memory);
  float sum = 0;
  for (int i = threadIdx.x; i < p.n; i += blockDim.x) sum += p.x[i];
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (int i = 0; i < static_cast<int>(blockDim.x) / 32; ++i) sum += part[i];
    p.y[0] = sum;
  }
}

struct ArchParams {
  int* out;
};
__device__ void arch(const ArchParams& p) { *p.out = __CUDA_ARCH__; }

}  // namespace blackwell_compat

BC_ENTRY(test_add_one, 256, blackwell_compat::AddParams, blackwell_compat::add_one)
BC_ENTRY(test_block_sum, 256, blackwell_compat::AddParams, blackwell_compat::block_sum)
BC_ENTRY(test_arch, 32, blackwell_compat::ArchParams, blackwell_compat::arch)
