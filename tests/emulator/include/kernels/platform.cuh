// csrc/kernels/platform.cuh for g++: the same names and rules, the instructions by the emulator. What a card lacks is an error
// here, not an empty function.
#pragma once

#define BC_ENTRY(name, threads, Params, ...)                                                             \
  extern "C" void name(const void* parameters) { __VA_ARGS__(*static_cast<const Params*>(parameters)); } \
  static ::emulator::Kernel name##_kernel(#name, threads, sizeof(Params), name);

#define BC_SHARED(name) unsigned char* const name = ::emulator::place->shared

namespace blackwell_compat {

using int64_t = long long;

constexpr int kArchitecture = __CUDA_ARCH__, kTilesFor = kArchitecture;

struct f16 {
  unsigned short bits;
};
struct bf16 {
  unsigned short bits;
};

inline double to_float(double value) { return value; }
inline float to_float(float value) { return value; }
inline float to_float(f16 value) {
  // The exponent's bias by a product: subnormal numbers need no case of their own
  const float magnitude = __uint_as_float((value.bits & 0x7fffu) << 13) * 0x1p112f;
  unsigned bits = __float_as_uint(magnitude);
  if (magnitude >= 65536) bits |= 0x7f800000u;
  return __uint_as_float(bits | (value.bits & 0x8000u) << 16);
}
inline float to_float(bf16 value) { return __uint_as_float(static_cast<unsigned>(value.bits) << 16); }

template <typename T>
struct Convert {
  static T from(T value) { return value; }
};
template <>
struct Convert<f16> {
  static f16 from(float value) {
    const unsigned all = __float_as_uint(value), sign = all >> 16 & 0x8000u, bits = all & 0x7fffffffu;
    if (bits > 0x7f800000u) return {0x7fff};
    if (bits >= 0x477ff000u) return {static_cast<unsigned short>(sign | 0x7c00u)};  // rounds to 65536 or more
    if (bits < 0x38800000u) {  // subnormal in f16: float's own rounding at 2^-24, by adding 0.5
      const float rounded = __uint_as_float(bits) + 0.5f;
      return {static_cast<unsigned short>(sign | (__float_as_uint(rounded) - 0x3f000000u))};
    }
    const unsigned rounded = bits + 0xfffu + (bits >> 13 & 1);
    return {static_cast<unsigned short>(sign | ((rounded - 0x38000000u) >> 13))};
  }
};
template <>
struct Convert<bf16> {
  static bf16 from(float value) {
    const unsigned bits = __float_as_uint(value);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return {static_cast<unsigned short>(nan ? 0x7fff : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
  }
};

inline float power_of_2(float value) {
  const float power = exp2f(value);
  return power < 0x1p-126f ? 0 : power;
}

// cvt.rna: halves away from zero
inline unsigned to_tf32(float value) {
  const unsigned bits = __float_as_uint(value);
#if __CUDA_ARCH__ >= 800
  return isfinite(value) ? (bits + 0x1000u) & 0xffffe000u : bits;
#else
  return bits;
#endif
}

inline unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(static_cast<const unsigned char*>(shared) - ::emulator::place->shared);
}

inline void async_copy_16(void* shared, const void* global, bool valid, ::emulator::Where where = ::emulator::here()) {
  if (valid) static_cast<void>(*static_cast<const volatile unsigned char*>(global));  // a bad address ends the launch here
  ::emulator::async_copy(shared, global, valid, where);
#if __CUDA_ARCH__ < 800
  ::emulator::async_commit();
  ::emulator::async_wait(0);
#endif
}

inline void async_commit() {
#if __CUDA_ARCH__ >= 800
  ::emulator::async_commit();
#endif
}

template <int pending>
inline void async_wait() {
#if __CUDA_ARCH__ >= 800
  ::emulator::async_wait(pending);
#endif
}

template <int needed>
inline void needs_arch(const char* what) {
  if (__CUDA_ARCH__ < needed) ::emulator::fail("%s needs sm_%d, this is sm_%d", what, needed / 10, __CUDA_ARCH__ / 10);
}

template <bool transposed>
inline void load_matrices(unsigned (&r)[4], const void* row, int behind = 0, ::emulator::Where where = ::emulator::here()) {
  needs_arch<750>("load_matrices");
  ::emulator::load_matrices(r, static_cast<const unsigned char*>(row) + behind, transposed, where);
}

inline void multiply_16x8x16(f16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                             ::emulator::Where where = ::emulator::here()) {
  needs_arch<750>("multiply_16x8x16 of f16");
  ::emulator::multiply_16x8x16(::emulator::Half::kF16, d, a, b, where);
}
inline void multiply_16x8x16(bf16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                             ::emulator::Where where = ::emulator::here()) {
  needs_arch<800>("multiply_16x8x16 of bf16");
  ::emulator::multiply_16x8x16(::emulator::Half::kBf16, d, a, b, where);
}

inline void multiply_16x8x8(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                            ::emulator::Where where = ::emulator::here()) {
  needs_arch<800>("multiply_16x8x8");
  ::emulator::multiply_16x8x8(d, a, b, where);
}

inline void multiply_8x8x4(float (&d)[8], const unsigned (&a)[2], const unsigned (&b)[2],
                           ::emulator::Where where = ::emulator::here()) {
  needs_arch<700>("multiply_8x8x4");
  ::emulator::multiply_8x8x4(d, a, b, where);
}

}  // namespace blackwell_compat
