// What a kernel needs beyond C++: entry points, shared memory, 16-bit floats, and each generation's instructions behind one name,
// with a version for the cards that lack them. Nothing else in kernels/ knows PTX. tests/emulator has a file of this name for
// g++.
#pragma once

// extern "C" __global__ void name(Params p): one launch of __VA_ARGS__(p). A line of its own: each is compiled alone when it is
// first needed (cmake/kernels.cmake), all together for a fatbin.
#define BC_ENTRY(name, threads, Params, ...) \
  extern "C" __global__ void __launch_bounds__(threads, 1) name(const Params p) { __VA_ARGS__(p); }

// The block's shared memory, as many bytes as the launch asks for, aligned to 16
#define BC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

namespace blackwell_compat {

using int64_t = long long;

#ifdef __CUDA_ARCH__
constexpr int kArchitecture = __CUDA_ARCH__;  // 1200 is sm_120
#else
constexpr int kArchitecture = 0;  // nvcc looks through the file for the host, too
#endif

// What shared memory and tiles are laid out for. The host reckons with the same: with the card's own architecture, also where an
// older compiler makes the code
#ifdef BC_TILES_FOR
constexpr int kTilesFor = BC_TILES_FOR;
#else
constexpr int kTilesFor = kArchitecture;
#endif

struct f16 {
  unsigned short bits;
};
struct bf16 {
  unsigned short bits;
};

// The type that values are computed in
__device__ __forceinline__ double to_float(double value) { return value; }
__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(f16 value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
}
__device__ __forceinline__ float to_float(bf16 value) { return __uint_as_float(static_cast<unsigned>(value.bits) << 16); }

template <typename T>
struct Convert {
  static __device__ __forceinline__ T from(T value) { return value; }
};
template <>
struct Convert<f16> {
  static __device__ __forceinline__ f16 from(float value) {
    f16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
  }
};
template <>
struct Convert<bf16> {
  static __device__ __forceinline__ bf16 from(float value) {
    bf16 result;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#else
    const unsigned bits = __float_as_uint(value);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    result.bits = nan ? 0x7fff : static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
#endif
    return result;
  }
};

// To 2 in the last place; zero where it is subnormal
__device__ __forceinline__ float power_of_2(float value) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

// float32 rounded to the 10 bits of mantissa that tensor cores take
__device__ __forceinline__ unsigned to_tf32(float value) {
#if __CUDA_ARCH__ >= 800
  unsigned result;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(value));
  return result;
#else
  return __float_as_uint(value);
#endif
}

__device__ __forceinline__ unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

// 16 bytes from global to shared memory, both aligned to 16; zeros, and nothing is read, where not `valid`: `global` may be any
// address then. Done when async_wait says so (before sm_80: at once), seen by other threads after a barrier
__device__ __forceinline__ void async_copy_16(void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  // The instruction wants an aligned address also where it reads nothing
  const size_t from = reinterpret_cast<size_t>(global) & (valid ? ~size_t{0} : ~size_t{15});
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(from), "r"(bytes) : "memory");
#else
  *static_cast<uint4*>(shared) = valid ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
#endif
}

// The copies since the last commit are one group
__device__ __forceinline__ void async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until all of this thread's groups but the newest `pending` are there
template <int pending>
__device__ __forceinline__ void async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit values, from shared memory (sm_75). Lane l names row l % 8 of matrix l / 8, 16 bytes that lie
// `behind` bytes behind `row`: a constant, which the instruction has in itself. In r[i] lane l gets of matrix i row l / 4,
// columns 2 * (l % 4) and one more; `transposed`: column l / 4, rows 2 * (l % 4) and one more
template <bool transposed>
__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const void* row, int behind = 0) {
#if __CUDA_ARCH__ >= 750
  if (transposed) {
    asm volatile("{.reg .b32 at; add.s32 at, %4, %5; ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [at];}"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)), "r"(behind)
                 : "memory");
  } else {
    asm volatile("{.reg .b32 at; add.s32 at, %4, %5; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [at];}"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)), "r"(behind)
                 : "memory");
  }
#endif
}

// d (16 x 8) += a (16 x 16) b (16 x 8), fragments as mma.m16n8k16 lays them out: float16 from sm_75, bfloat16 from sm_80
__device__ __forceinline__ void multiply_16x8x16(f16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif __CUDA_ARCH__ >= 750
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}
__device__ __forceinline__ void multiply_16x8x16(bf16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// d (16 x 8) += a (16 x 8) b (8 x 8) of float32 rounded by to_tf32, fragments as mma.m16n8k8 of .tf32 (sm_80)
__device__ __forceinline__ void multiply_16x8x8(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Four products d (8 x 8) += a (8 x 4) b (4 x 8) of float16 at once, one by each quad pair of the warp, fragments as
// mma.m8n8k4.row.col of .f32 (sm_70, where it is the tensor cores' own instruction)
__device__ __forceinline__ void multiply_8x8x4(float (&d)[8], const unsigned (&a)[2], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 700
  asm volatile(
      "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9}, {%10,%11}, {%0,%1,%2,%3,%4,%5,%6,%7};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(b[1]));
#endif
}

}  // namespace blackwell_compat
