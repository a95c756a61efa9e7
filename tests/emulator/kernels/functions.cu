// Functions of one thread.
#include "params.cuh"

using namespace blackwell_compat;

// [function][i] of float x[i] and y[i] = x[n + i]
TEST_KERNEL(test_floats) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= p.n) return;
  const float x = static_cast<const float*>(p.x)[i], y = static_cast<const float*>(p.x)[p.n + i];
  float sine, cosine, sine_pi, cosine_pi;
  sincosf(x, &sine, &cosine);
  sincospif(x, &sine_pi, &cosine_pi);
  const float results[] = {expf(x),          __expf(x),        exp2f(x),       logf(fabsf(x)),
                           log2f(fabsf(x)),  log1pf(fabsf(x)), expm1f(x),      sqrtf(fabsf(x)),
                           rsqrtf(fabsf(x)), tanhf(x),         erff(x),        sine,
                           cosine,           sine_pi,          cosine_pi,      powf(fabsf(x), y),
                           fmaf(x, y, 2.f),  __fdividef(x, y), floorf(x),      ceilf(x),
                           truncf(x),        rintf(x),         roundf(x),      copysignf(x, y),
                           min(x, y),        max(x, y),        __saturatef(x), atan2f(x, y),
                           fmodf(x, y),      __frcp_rn(x),     abs(x),         static_cast<float>(exp(static_cast<double>(x)))};
  for (int f = 0; f < static_cast<int>(sizeof(results) / sizeof(float)); ++f) static_cast<float*>(p.y)[f * p.n + i] = results[f];
}

// [function][i] of unsigned x[i] and y[i] = x[n + i]
TEST_KERNEL(test_bits) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= p.n) return;
  const unsigned x = static_cast<const unsigned*>(p.x)[i], y = static_cast<const unsigned*>(p.x)[p.n + i];
  const int signed_x = static_cast<int>(x);
  const unsigned results[] = {static_cast<unsigned>(__popc(x)),
                              static_cast<unsigned>(__clz(signed_x)),
                              static_cast<unsigned>(__ffs(signed_x)),
                              __brev(x),
                              __umulhi(x, y),
                              __funnelshift_l(x, y, 5),
                              __funnelshift_r(x, y, 37),
                              __byte_perm(x, y, 0x2715),
                              __float_as_uint(__uint_as_float(x)),
                              min(x, y),
                              max(x, y),
                              static_cast<unsigned>(min(signed_x, static_cast<int>(y))),
                              static_cast<unsigned>(abs(signed_x))};
  for (int f = 0; f < static_cast<int>(sizeof(results) / sizeof(unsigned)); ++f)
    static_cast<unsigned*>(p.y)[f * p.n + i] = results[f];
}

// [conversion][i]: f16 and bf16 of the low 16 bits of x[i] as floats, float x[i] as f16, bf16 and tf32
TEST_KERNEL(test_conversions) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= p.n) return;
  const unsigned x = static_cast<const unsigned*>(p.x)[i];
  const auto low = static_cast<unsigned short>(x);
  const float value = __uint_as_float(x);
  const unsigned results[] = {__float_as_uint(to_float(f16{low})), __float_as_uint(to_float(bf16{low})),
                              Convert<f16>::from(value).bits, Convert<bf16>::from(value).bits, to_tf32(value)};
  for (int f = 0; f < 5; ++f) static_cast<unsigned*>(p.y)[f * p.n + i] = results[f];
}

TEST_KERNEL(test_vectors) {
  const float4 x = *static_cast<const float4*>(p.x);
  const uint2 bits = make_uint2(__float_as_uint(x.x), sizeof(double2));
  float4* const out = static_cast<float4*>(p.y);
  out[0] = make_float4(x.w, x.z, x.y, x.x);
  out[1] = make_float4(__uint_as_float(bits.x), static_cast<float>(bits.y), static_cast<float>(alignof(uint4)), __ldg(&x.y));
}
