// Vectors of fft_kernel.h: a lane a frame. Complex numbers, points of a transform in memory, lanes that change places.
#pragma once
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <type_traits>
#include <utility>

#define BC_INLINE inline __attribute__((always_inline))
// A loop with a constant count over vectors in registers: as a loop they would live in memory.
#define BC_UNROLL _Pragma("GCC unroll 16")

namespace blackwell_compat::fft::BC_ISA {

template <typename T>
struct Lanes {
  static constexpr int kCount = kBytes / sizeof(T);
  using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T Vec __attribute__((vector_size(kBytes)));
  typedef T Slot __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));
  typedef Index Mask __attribute__((vector_size(kBytes)));
};

template <typename T>
using Vec = typename Lanes<T>::Vec;

template <typename T>
constexpr int kLanes = Lanes<T>::kCount;

template <typename T>
BC_INLINE Vec<T> load(const T* from) {
  return *reinterpret_cast<const typename Lanes<T>::Slot*>(from);
}

template <typename T>
BC_INLINE void store(T* to, Vec<T> value) {
  *reinterpret_cast<typename Lanes<T>::Slot*>(to) = value;
}

// The first `count` lanes.
#if defined(__AVX512F__)
BC_INLINE void store_some(float* to, int64_t count, Vec<float> value) { _mm512_mask_storeu_ps(to, (1u << count) - 1, value); }
BC_INLINE void store_some(double* to, int64_t count, Vec<double> value) { _mm512_mask_storeu_pd(to, (1u << count) - 1, value); }
#elif defined(__AVX2__)
BC_INLINE void store_some(float* to, int64_t count, Vec<float> value) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes), value);
}
BC_INLINE void store_some(double* to, int64_t count, Vec<double> value) {
  _mm256_maskstore_pd(to, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3)), value);
}
#else
template <typename T>
BC_INLINE void store_some(T* to, int64_t count, Vec<T> value) {
  for (int64_t i = 0; i < count; ++i) to[i] = value[i];
}
#endif

template <typename T>
struct Complex {
  Vec<T> re, im;

  BC_INLINE Complex operator+(const Complex& o) const { return {re + o.re, im + o.im}; }
  BC_INLINE Complex operator-(const Complex& o) const { return {re - o.re, im - o.im}; }
  BC_INLINE Complex times(T c, T s) const { return {re * c - im * s, re * s + im * c}; }
  BC_INLINE Complex times_minus_i() const { return {im, -re}; }
  BC_INLINE Complex conj() const { return {re, -im}; }
};

// Point i of a transform in memory.
template <typename T>
BC_INLINE T* point(T* x, int64_t i) {
  return x + 2 * kLanes<T> * i;
}

template <typename T>
BC_INLINE Complex<T> load_point(const T* from) {
  return {load<T>(from), load<T>(from + kLanes<T>)};
}

template <typename T>
BC_INLINE void store_point(T* to, const Complex<T>& value) {
  store<T>(to, value.re);
  store<T>(to + kLanes<T>, value.im);
}

template <typename T, int kDistance, int... I>
BC_INLINE void exchange(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, I...>) {
  using Mask = typename Lanes<T>::Mask;
  constexpr int kAll = sizeof...(I);
  const Vec<T> low = __builtin_shuffle(a, b, Mask{((I & kDistance) ? kAll + I - kDistance : I)...});
  b = __builtin_shuffle(a, b, Mask{((I & kDistance) ? kAll + I : I + kDistance)...});
  a = low;
}

template <typename T, int kDistance = 1>
BC_INLINE void transpose(Vec<T> (&rows)[kLanes<T>]) {
  BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) {
    if ((i & kDistance) == 0) exchange<T, kDistance>(rows[i], rows[i + kDistance], std::make_integer_sequence<int, kLanes<T>>());
  }
  if constexpr (2 * kDistance < kLanes<T>) transpose<T, 2 * kDistance>(rows);
}

template <typename T, int... I>
BC_INLINE Complex<T> separate(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  using Mask = typename Lanes<T>::Mask;
  return {__builtin_shuffle(a, b, Mask{2 * I...}), __builtin_shuffle(a, b, Mask{2 * I + 1 ...})};
}

// Lanes moved up by `shift` of 0 to kLanes - 1: those that stay in the vector, and those that go to the beginning of the next.
template <typename T>
struct Turn {
  using Mask = typename Lanes<T>::Mask;
  Mask from, stays;

  BC_INLINE explicit Turn(int shift) : Turn(shift, std::make_integer_sequence<int, kLanes<T>>()) {}
  template <int... I>
  BC_INLINE Turn(int shift, std::integer_sequence<int, I...>)
      : from((Mask{I...} - shift) & (kLanes<T> - 1)), stays(Mask{I...} >= shift) {}

  BC_INLINE Vec<T> operator()(Vec<T> value) const { return __builtin_shuffle(value, from); }
};

}  // namespace blackwell_compat::fft::BC_ISA
