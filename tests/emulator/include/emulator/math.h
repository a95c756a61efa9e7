// Functions of one thread: bits, arithmetic, the C library's mathematics. The fast ones (__expf) are the exact ones here.
#pragma once

extern "C" {
// As in CUDA, exp of a float is expf
#define EMULATOR_MATH_1(name)    \
  float name##f(float) noexcept; \
  double name(double) noexcept;  \
  extern "C++" inline float name(float x) noexcept { return name##f(x); }
EMULATOR_MATH_1(exp)
EMULATOR_MATH_1(exp2)
EMULATOR_MATH_1(expm1)
EMULATOR_MATH_1(log)
EMULATOR_MATH_1(log2)
EMULATOR_MATH_1(log10)
EMULATOR_MATH_1(log1p)
EMULATOR_MATH_1(sqrt)
EMULATOR_MATH_1(cbrt)
EMULATOR_MATH_1(sin)
EMULATOR_MATH_1(cos)
EMULATOR_MATH_1(tan)
EMULATOR_MATH_1(asin)
EMULATOR_MATH_1(acos)
EMULATOR_MATH_1(atan)
EMULATOR_MATH_1(sinh)
EMULATOR_MATH_1(cosh)
EMULATOR_MATH_1(tanh)
EMULATOR_MATH_1(asinh)
EMULATOR_MATH_1(acosh)
EMULATOR_MATH_1(atanh)
EMULATOR_MATH_1(erf)
EMULATOR_MATH_1(erfc)
EMULATOR_MATH_1(lgamma)
EMULATOR_MATH_1(tgamma)
EMULATOR_MATH_1(fabs)
EMULATOR_MATH_1(floor)
EMULATOR_MATH_1(ceil)
EMULATOR_MATH_1(round)
EMULATOR_MATH_1(rint)
EMULATOR_MATH_1(nearbyint)
EMULATOR_MATH_1(trunc)
#undef EMULATOR_MATH_1
#define EMULATOR_MATH_2(name)           \
  float name##f(float, float) noexcept; \
  double name(double, double) noexcept; \
  extern "C++" inline float name(float x, float y) noexcept { return name##f(x, y); }
EMULATOR_MATH_2(pow)
EMULATOR_MATH_2(atan2)
EMULATOR_MATH_2(fmod)
EMULATOR_MATH_2(remainder)
EMULATOR_MATH_2(fmin)
EMULATOR_MATH_2(fmax)
EMULATOR_MATH_2(hypot)
EMULATOR_MATH_2(copysign)
EMULATOR_MATH_2(nextafter)
#undef EMULATOR_MATH_2
float fmaf(float, float, float) noexcept;
double fma(double, double, double) noexcept;
float ldexpf(float, int) noexcept;
double ldexp(double, int) noexcept;
void sincosf(float, float*, float*) noexcept;
void sincos(double, double*, double*) noexcept;
#ifdef EMULATOR_CHECKED  // calls that the compiler makes of a kernel's loops and assignments included
void* memcpy(void*, const void*, size_t) noexcept asm("emulator_memcpy");
void* memmove(void*, const void*, size_t) noexcept asm("emulator_memmove");
void* memset(void*, int, size_t) noexcept asm("emulator_memset");
#else
void* memcpy(void*, const void*, size_t) noexcept;
void* memmove(void*, const void*, size_t) noexcept;
void* memset(void*, int, size_t) noexcept;
#endif
}

inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float exp10f(float x) { return powf(10, x); }
inline double sinpi(double x) { return sin(3.14159265358979323846 * fmod(x, 2.0)); }
inline double cospi(double x) { return cos(3.14159265358979323846 * fmod(x, 2.0)); }
inline float sinpif(float x) { return static_cast<float>(sinpi(static_cast<double>(x))); }
inline float cospif(float x) { return static_cast<float>(cospi(static_cast<double>(x))); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }

inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline void __sincosf(float x, float* s, float* c) { sincosf(x, s, c); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __frsqrt_rn(float x) { return static_cast<float>(1 / sqrt(static_cast<double>(x))); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }  // NaN becomes 0

inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isnan(double x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool isfinite(double x) { return __builtin_isfinite(x); }
inline bool signbit(float x) { return __builtin_signbit(x); }
inline bool signbit(double x) { return __builtin_signbit(x); }

#define EMULATOR_MIN_MAX(T, ...)                                                         \
  constexpr T min(__VA_ARGS__) { return static_cast<T>(b) < static_cast<T>(a) ? b : a; } \
  constexpr T max(__VA_ARGS__) { return static_cast<T>(a) < static_cast<T>(b) ? b : a; }
EMULATOR_MIN_MAX(int, int a, int b)
EMULATOR_MIN_MAX(unsigned, unsigned a, unsigned b)
EMULATOR_MIN_MAX(unsigned, int a, unsigned b)
EMULATOR_MIN_MAX(unsigned, unsigned a, int b)
EMULATOR_MIN_MAX(long, long a, long b)
EMULATOR_MIN_MAX(unsigned long, unsigned long a, unsigned long b)
EMULATOR_MIN_MAX(long long, long long a, long long b)
EMULATOR_MIN_MAX(unsigned long long, unsigned long long a, unsigned long long b)
#undef EMULATOR_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(static_cast<double>(a), static_cast<double>(b)); }
inline double max(float a, double b) { return fmax(static_cast<double>(a), static_cast<double>(b)); }
inline double min(double a, float b) { return fmin(static_cast<double>(a), static_cast<double>(b)); }
inline double max(double a, float b) { return fmax(static_cast<double>(a), static_cast<double>(b)); }

inline int abs(int x) { return x < 0 ? -x : x; }
inline long long abs(long long x) { return x < 0 ? -x : x; }
inline float abs(float x) { return fabsf(x); }
inline double abs(double x) { return fabs(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= (x >> i & 1) << (31 - i);
  return result;
}
inline int __mulhi(int x, int y) { return static_cast<int>(static_cast<long long>(x) * y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned>(static_cast<unsigned long long>(x) * y >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(static_cast<Wide>(x) * y >> 64);
}
// Byte i of the result is byte selector[4i+2 : 4i] of y:x; bit 4i+3 would repeat its sign
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const unsigned long long bytes = static_cast<unsigned long long>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned pick = selector >> (4 * i) & 15;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (pick & 7))) & 255;
    if (pick & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31));
}

#define EMULATOR_BITS(name, From, To)              \
  inline To name(From value) {                     \
    To result;                                     \
    static_assert(sizeof(From) == sizeof(To), ""); \
    __builtin_memcpy(&result, &value, sizeof(To)); \
    return result;                                 \
  }
EMULATOR_BITS(__uint_as_float, unsigned, float)
EMULATOR_BITS(__float_as_uint, float, unsigned)
EMULATOR_BITS(__int_as_float, int, float)
EMULATOR_BITS(__float_as_int, float, int)
EMULATOR_BITS(__longlong_as_double, long long, double)
EMULATOR_BITS(__double_as_longlong, double, long long)
#undef EMULATOR_BITS

inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
