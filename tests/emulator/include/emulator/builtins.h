// CUDA's built-ins for g++; it stands before every kernel file (g++ -include).
#pragma once
#include "emulator/core.h"
#include "emulator/math.h"
#include "emulator/threads.h"
#include "emulator/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __restrict__ __restrict
#define __shared__ static_assert(false, "static __shared__ variables are not emulated: take them from BC_SHARED");

#define threadIdx (::emulator::place->thread)
#define blockIdx (::emulator::place->block)
#define blockDim (::emulator::place->block_size)
#define gridDim (::emulator::place->grid)
constexpr int warpSize = 32;

template <typename T>
inline T __ldg(const T* address) {
  return *address;
}
