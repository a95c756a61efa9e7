// One warp, one instruction: fragments in p.x, [lane][registers of a, b, d], results in p.y, [lane][registers of d].
#include "params.cuh"

using namespace blackwell_compat;

namespace blackwell_compat {

template <int of_a, int of_b, int of_d, typename F>
__device__ void with_fragments(const TestParams& p, F multiply) {
  const unsigned* const in = static_cast<const unsigned*>(p.x) + threadIdx.x * (of_a + of_b + of_d);
  unsigned a[of_a], b[of_b];
  float d[of_d];
  for (int i = 0; i < of_a; ++i) a[i] = in[i];
  for (int i = 0; i < of_b; ++i) b[i] = in[of_a + i];
  for (int i = 0; i < of_d; ++i) d[i] = __uint_as_float(in[of_a + of_b + i]);
  multiply(d, a, b);
  for (int i = 0; i < of_d; ++i) static_cast<float*>(p.y)[threadIdx.x * of_d + i] = d[i];
}

template <bool transposed>
__device__ void rows_to_fragments(const TestParams& p) {
  constexpr int kPitch = 24;  // bytes to the next row of 16: not a multiple of the banks
  BC_SHARED(memory);
  unsigned char* const row = memory + threadIdx.x * 2 * kPitch;
  *reinterpret_cast<uint4*>(row) = static_cast<const uint4*>(p.x)[threadIdx.x];
  __syncwarp();
  unsigned r[4];
  load_matrices<transposed>(r, row);
  for (int i = 0; i < 4; ++i) static_cast<unsigned*>(p.y)[threadIdx.x * 4 + i] = r[i];
}

}  // namespace blackwell_compat

TEST_KERNEL(test_16x8x16_f16) {
  with_fragments<4, 2, 4>(
      p, [](float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { multiply_16x8x16(f16(), d, a, b); });
}
TEST_KERNEL(test_16x8x16_bf16) {
  with_fragments<4, 2, 4>(
      p, [](float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { multiply_16x8x16(bf16(), d, a, b); });
}
TEST_KERNEL(test_16x8x8) {
  with_fragments<4, 2, 4>(p, [](float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { multiply_16x8x8(d, a, b); });
}
TEST_KERNEL(test_8x8x4) {
  with_fragments<2, 2, 8>(p, [](float (&d)[8], const unsigned (&a)[2], const unsigned (&b)[2]) { multiply_8x8x4(d, a, b); });
}
TEST_KERNEL(test_load_matrices) { rows_to_fragments<false>(p); }
TEST_KERNEL(test_load_transposed) { rows_to_fragments<true>(p); }
