// Values as kernels compute with them.
#pragma once
#include "kernels/platform.cuh"

namespace blackwell_compat {

__device__ __forceinline__ double value_of(double value) { return value; }
__device__ __forceinline__ float value_of(float value) { return value; }
__device__ __forceinline__ float value_of(f16 value) { return to_float(value); }
__device__ __forceinline__ float value_of(bf16 value) { return to_float(value); }
__device__ __forceinline__ int64_t value_of(int64_t value) { return value; }
__device__ __forceinline__ int64_t value_of(int value) { return value; }
__device__ __forceinline__ int64_t value_of(short value) { return value; }
__device__ __forceinline__ int64_t value_of(unsigned char value) { return value; }

template <typename T>
using Value = decltype(value_of(T()));

}  // namespace blackwell_compat
