// All entry points of pointwise kernels, for compilers that make them together; NVRTC makes the one that is asked for. nvcc takes
// those of the dtypes that models compute in.
#ifndef __CUDACC_RTC__

#define BC_POINTWISE_ENTRY(name, dtype, T) \
  BC_ENTRY(compat_pointwise_##name##_##dtype, 256, PointwiseParams, pointwise<name##_op<T>>)
#ifdef __CUDACC__
#define BC_POINTWISE_RARE(name, dtype, T)
#else
#define BC_POINTWISE_RARE(name, dtype, T) BC_POINTWISE_ENTRY(name, dtype, T)
#endif

#define BC_DTYPES_F32(name) BC_POINTWISE_ENTRY(name, f32, float)
#define BC_DTYPES_C64(name) BC_POINTWISE_ENTRY(name, c64, c64)
#define BC_DTYPES_FLOATS(name)         \
  BC_POINTWISE_ENTRY(name, f32, float) \
  BC_POINTWISE_ENTRY(name, f16, f16)   \
  BC_POINTWISE_ENTRY(name, bf16, bf16) \
  BC_POINTWISE_RARE(name, f64, double)
#define BC_DTYPES_INTS(name)               \
  BC_POINTWISE_ENTRY(name, i64, long long) \
  BC_POINTWISE_RARE(name, i32, int)        \
  BC_POINTWISE_RARE(name, i16, short)      \
  BC_POINTWISE_RARE(name, i8, signed char) \
  BC_POINTWISE_RARE(name, u8, unsigned char)
#define BC_DTYPES_BOOL(name) BC_POINTWISE_ENTRY(name, bool, bool)
#define BC_DTYPES_FLOATS_C(name) BC_DTYPES_FLOATS(name) BC_DTYPES_C64(name)
#define BC_DTYPES_INTS_B(name) BC_DTYPES_INTS(name) BC_DTYPES_BOOL(name)
#define BC_DTYPES_REALS(name) BC_DTYPES_FLOATS(name) BC_DTYPES_INTS(name)
#define BC_DTYPES_REALS_B(name) BC_DTYPES_REALS(name) BC_DTYPES_BOOL(name)
#define BC_DTYPES_NUMBERS(name) BC_DTYPES_REALS(name) BC_DTYPES_C64(name)
#define BC_DTYPES_ALL(name) BC_DTYPES_NUMBERS(name) BC_DTYPES_BOOL(name)

#define BC_POINTWISE(name, dtypes, ...) BC_DTYPES_##dtypes(name)
#include "kernels/pointwise_ops.cuh"
#undef BC_POINTWISE

#endif
