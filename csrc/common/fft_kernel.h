// The kernels of fft.h, compiled once per instruction set: the including file defines BC_ISA and kBytes, the width of a vector.
#pragma once
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <type_traits>
#include <utility>

#include "common/fft.h"

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

template <typename T>
BC_INLINE void dft(Complex<T> (&a)[2], const T*) {
  const Complex<T> b = a[0] - a[1];
  a[0] = a[0] + a[1];
  a[1] = b;
}

template <typename T>
BC_INLINE void dft4(Complex<T>& a, Complex<T>& b, Complex<T>& c, Complex<T>& d) {
  const Complex<T> even = a + c, odd = b + d, e = a - c, o = (b - d).times_minus_i();
  a = even + odd;
  b = e + o;
  c = even - odd;
  d = e - o;
}

template <typename T>
BC_INLINE void dft(Complex<T> (&a)[4], const T*) {
  dft4(a[0], a[1], a[2], a[3]);
}

template <typename T>
BC_INLINE void dft(Complex<T> (&a)[8], const T*) {
  constexpr T kDiagonal = static_cast<T>(0.70710678118654752440);
  dft4(a[0], a[2], a[4], a[6]);
  dft4(a[1], a[3], a[5], a[7]);
  const Complex<T> o0 = a[1], o2 = a[5].times_minus_i();
  const Complex<T> o1 = {(a[3].re + a[3].im) * kDiagonal, (a[3].im - a[3].re) * kDiagonal};
  const Complex<T> o3 = {(a[7].im - a[7].re) * kDiagonal, (a[7].re + a[7].im) * -kDiagonal};
  const Complex<T> e0 = a[0], e1 = a[2], e2 = a[4], e3 = a[6];
  a[0] = e0 + o0, a[1] = e1 + o1, a[2] = e2 + o2, a[3] = e3 + o3;
  a[4] = e0 - o0, a[5] = e1 - o1, a[6] = e2 - o2, a[7] = e3 - o3;
}

// An odd radix. Points k and R - k share their products: a sum with cosines, and one with sines that turns by a right angle.
template <typename T, int R>
BC_INLINE void dft(Complex<T> (&a)[R], const T* roots) {
  constexpr int kHalf = R / 2;
  Complex<T> sum[kHalf], difference[kHalf];
  Complex<T> first = a[0];
  BC_UNROLL for (int k = 0; k < kHalf; ++k) {
    sum[k] = a[k + 1] + a[R - 1 - k];
    difference[k] = a[k + 1] - a[R - 1 - k];
    first = first + sum[k];
  }
  BC_UNROLL for (int j = 1; j <= kHalf; ++j) {
    Complex<T> even = a[0], odd = {Vec<T>{}, Vec<T>{}};
    BC_UNROLL for (int k = 1; k <= kHalf; ++k) {
      const T c = roots[2 * (j * k % R)], s = roots[2 * (j * k % R) + 1];
      even.re += sum[k - 1].re * c;
      even.im += sum[k - 1].im * c;
      odd.re += difference[k - 1].re * s;
      odd.im += difference[k - 1].im * s;
    }
    // a[1] to a[R - 1] have been read
    a[j] = even + odd.times_minus_i();
    a[R - j] = even - odd.times_minus_i();
  }
  a[0] = first;
}

// Reads a block's points where they will be written.
template <typename T>
struct InPlace {
  const T* x;
  BC_INLINE Complex<T> operator()(int64_t i) const { return load_point(x + 2 * kLanes<T> * i); }
};

// Reads windowed samples; two make a point of an even plan.
template <typename T, bool kEven>
struct Samples {
  const T* samples;
  const int32_t* offset;
  const T* window;

  BC_INLINE Vec<T> sample(int64_t n) const { return load<T>(samples + offset[n]) * window[n]; }
  BC_INLINE Complex<T> operator()(int64_t i) const {
    if constexpr (kEven) return {sample(2 * i), sample(2 * i + 1)};
    return {sample(i), Vec<T>{}};
  }
};

// Stores a butterfly's points where a block keeps them.
template <typename T>
struct Store {
  T* x;
  template <int R>
  BC_INLINE void operator()(int64_t place, const Complex<T> (&a)[R]) const {
    BC_UNROLL for (int k = 0; k < R; ++k) store_point(point(x, place + k), a[k]);
  }
};

template <int R, bool kTurned, typename T, typename Source>
BC_INLINE void butterfly(const Source& source, int64_t i, int64_t apart, const T* twiddles, const T* roots, T* x) {
  Complex<T> a[R];
  BC_UNROLL for (int k = 0; k < R; ++k) a[k] = source(i + k * apart);
  dft(a, roots);
  store_point(point(x, i), a[0]);
  BC_UNROLL for (int k = 1; k < R; ++k) {
    const T* turn = twiddles + 2 * (k - 1);
    store_point(point(x, i + k * apart), kTurned ? a[k].times(turn[0], turn[1]) : a[k]);
  }
}

template <int R, typename T, typename Source>
BC_INLINE void split_block(const Source& source, const Pass<T>& pass, T* x) {
  const int64_t apart = pass.size / R;
  butterfly<R, false>(source, 0, apart, pass.twiddles, pass.roots, x);
  for (int64_t i = 1; i < apart; ++i) {
    butterfly<R, true>(source, i, apart, pass.twiddles + 2 * (R - 1) * i, pass.roots, x);
  }
}

// f(std::integral_constant<int, radix>)
template <typename F>
BC_INLINE void with_radix(int64_t radix, const F& f) {
  switch (radix) {
    case 2:
      return f(std::integral_constant<int, 2>());
    case 3:
      return f(std::integral_constant<int, 3>());
    case 4:
      return f(std::integral_constant<int, 4>());
    case 5:
      return f(std::integral_constant<int, 5>());
    case 7:
      return f(std::integral_constant<int, 7>());
    case 8:
      return f(std::integral_constant<int, 8>());
    case 11:
      return f(std::integral_constant<int, 11>());
    case 13:
      return f(std::integral_constant<int, 13>());
  }
}

template <typename T, typename Source>
__attribute__((noinline)) void first_pass(const Source& source, const Pass<T>& pass, T* x) {
  with_radix(pass.radix, [&](auto radix) { split_block<radix.value>(source, pass, x); });
}

template <typename T>
__attribute__((noinline)) void middle_pass(const Pass<T>& pass, T* x, int64_t points) {
  with_radix(pass.radix, [&](auto radix) {
    for (T* end = point(x, points); x != end; x = point(x, pass.size)) split_block<radix.value>(InPlace<T>{x}, pass, x);
  });
}

// The last pass over the points at `place` and the following; sink(place, values) gets the results of each block.
template <typename T, typename Source, typename Sink>
__attribute__((noinline)) void last_pass(const Pass<T>& pass, const Source& source, int64_t place, int64_t points,
                                         const Sink& sink) {
  with_radix(pass.radix, [&](auto radix) {
    for (int64_t end = place + points; place < end; place += radix.value) {
      Complex<T> a[radix.value];
      BC_UNROLL for (int k = 0; k < radix.value; ++k) a[k] = source(place + k);
      dft(a, pass.roots);
      sink(place, a);
    }
  });
}

// The forward transform of what `source` gives, by way of x. Each part that the first pass leaves goes through all other
// passes while it is in the first-level cache.
template <typename T, typename Source, typename Sink>
BC_INLINE void transform(const Plan<T>& plan, const Source& source, T* x, const Sink& sink) {
  if (plan.n_passes == 0) {
    const Complex<T> only[1] = {source(0)};
    return sink(0, only);
  }
  const Pass<T>&first = plan.passes[0], &last = plan.passes[plan.n_passes - 1];
  if (plan.n_passes == 1) return last_pass(last, source, 0, plan.size, sink);
  first_pass(source, first, x);
  const int64_t part = plan.size / first.radix;
  for (int64_t at = 0; at < plan.size; at += part) {
    for (int i = 1; i < plan.n_passes - 1; ++i) middle_pass(plan.passes[i], point(x, at), part);
    last_pass(last, InPlace<T>{x}, at, part, sink);
  }
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

// A few neighbouring bins of kLanes frames on their way to memory, where the bins of a frame lie side by side.
template <typename T>
struct Tile {
  static constexpr int64_t kBins = kLanes<T> / 2;

  T values[kLanes<T>][kLanes<T>] = {};

  BC_INLINE void set(int64_t bin, const Complex<T>& value) {
    store<T>(values[2 * bin], value.re);
    store<T>(values[2 * bin + 1], value.im);
  }

  BC_INLINE void write(int64_t bins, int64_t frames, T* out, int64_t row) const {
    Vec<T> rows[kLanes<T>];
    BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) rows[i] = load<T>(values[i]);
    transpose<T>(rows);
    if (bins == kBins && frames == kLanes<T>) {
      BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) store<T>(out + i * row, rows[i]);
      return;
    }
    BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) {
      if (i < frames) store_some(out + i * row, 2 * bins, rows[i]);
    }
  }
};

// Bins k and size - k from the transform of pairs of samples: s + u and conj(s - u).
template <typename T>
BC_INLINE std::pair<Complex<T>, Complex<T>> unpair(const Complex<T>& z, const Complex<T>& mirrored, T cos, T sin) {
  const Complex<T> s = z + mirrored.conj(), u = (z - mirrored.conj()).times(-sin, -cos);
  return {s + u, (s - u).conj()};
}

template <typename T>
BC_INLINE void write_bins(const Plan<T>& plan, const T* x, T edge, int64_t frames, T* out) {
  const int64_t bins = plan.bins(), row = 2 * bins, size = plan.size;
  const auto at_place = [&](int64_t k) { return load_point(x + 2 * kLanes<T> * plan.place[k]); };
  Tile<T> up, down;
  if (!plan.even()) {
    for (int64_t first = 0; first < bins; first += up.kBins) {
      const int64_t count = bins - first < up.kBins ? bins - first : up.kBins;
      for (int64_t c = 0; c < count; ++c) up.set(c, at_place(first + c));
      if (first == 0) up.set(0, {at_place(0).re * edge, Vec<T>{}});
      up.write(count, frames, out + 2 * first, row);
    }
    return;
  }
  const int64_t ups = size / 2 + 1, downs = bins - ups;  // bins 0 to size / 2, and those above in falling order
  for (int64_t first = 0; first < ups; first += up.kBins) {
    const int64_t n_up = ups - first < up.kBins ? ups - first : up.kBins;
    const int64_t n_down = downs - first < up.kBins ? downs - first : up.kBins;
    for (int64_t c = 0; c < n_up; ++c) {
      const int64_t k = first + c;
      auto [low, high] = unpair(at_place(k), at_place(k == 0 ? 0 : size - k), plan.turn[2 * k], plan.turn[2 * k + 1]);
      if (k == 0) low = {low.re * edge, Vec<T>{}}, high = {high.re * edge, Vec<T>{}};  // not -0: angle() would show it
      up.set(c, low);
      if (c < n_down) down.set(n_down - 1 - c, high);
    }
    up.write(n_up, frames, out + 2 * first, row);
    if (n_down > 0) down.write(n_down, frames, out + 2 * (size - first - n_down + 1), row);
  }
}

template <typename T>
void analyse(const Plan<T>& plan, const Analysis<T>& job) {
  for (int64_t t = 0; t < job.count; t += kLanes<T>) {
    const Store<T> in_place{job.work};
    if (plan.even()) {
      transform(plan, Samples<T, true>{job.samples + t, job.offset, job.window}, job.work, in_place);
    } else {
      transform(plan, Samples<T, false>{job.samples + t, job.offset, job.window}, job.work, in_place);
    }
    const int64_t frames = job.count - t < kLanes<T> ? job.count - t : kLanes<T>;
    write_bins(plan, job.work, job.edge, frames, job.out + 2 * plan.bins() * t);
  }
}

// Bins of frames that lie side by side in memory.
template <typename T>
struct Neighbours {
  const T* spectrum;
  int64_t bin_stride;

  BC_INLINE Complex<T> operator()(int64_t k) const {
    const T* from = spectrum + k * bin_stride;
    // The next frames lie in the same page, but in lines that the processor does not foresee
    __builtin_prefetch(from + 2 * kLanes<T>);
    __builtin_prefetch(from + 3 * kLanes<T>);
    return separate<T>(load<T>(from), load<T>(from + kLanes<T>), std::make_integer_sequence<int, kLanes<T>>());
  }
};

// Frames t to t + frames of the spectrum as points; lanes beyond are zero.
template <typename T>
BC_INLINE void gather(const Synthesis<T>& job, int64_t t, int64_t frames, int64_t bins, T* x) {
  const T* from = job.spectrum + t * job.frame_stride;
  constexpr int64_t kTile = kLanes<T> / 2;
  if (job.bin_stride == 2 && bins >= kTile) {
    for (int64_t next = 0; next < bins; next += kTile) {
      const int64_t k = next + kTile <= bins ? next : bins - kTile;  // the last tile overlaps the one before
      Vec<T> rows[kLanes<T>];
      BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) rows[i] =
          i < frames ? load<T>(from + i * job.frame_stride + 2 * k) : Vec<T>{};
      transpose<T>(rows);
      BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) store<T>(point(x, k) + i * kLanes<T>, rows[i]);
    }
    return;
  }
  for (int64_t k = 0; k < bins; ++k) {
    T* to = point(x, k);
    for (int64_t i = 0; i < kLanes<T>; ++i) {
      const T* value = from + k * job.bin_stride + i * job.frame_stride;
      to[i] = i < frames ? value[0] : 0;
      to[kLanes<T> + i] = i < frames ? value[1] : 0;
    }
  }
}

// A spectrum as the points whose forward transform is the inverse transform with real and imaginary parts exchanged.
template <typename T, typename Source>
__attribute__((noinline)) void prepare(const Plan<T>& plan, const Source& bin, T edge, T* x) {
  const auto put = [&](int64_t i, const Complex<T>& value) { store_point(point(x, i), Complex<T>{value.im, value.re}); };
  const int64_t size = plan.size;
  const Vec<T> none{};
  if (!plan.even()) {
    for (int64_t k = plan.bins() - 1; k > 0; --k) {
      const Complex<T> value = bin(k);
      put(k, value);
      put(size - k, value.conj());
    }
    return put(0, {bin(0).re * edge, none});
  }
  const Vec<T> first = bin(0).re * edge, last = bin(size).re * edge;
  for (int64_t k = 1; 2 * k <= size; ++k) {
    const Complex<T> low = bin(k), high = bin(size - k).conj();
    const Complex<T> s = low + high, u = (low - high).times(-plan.turn[2 * k + 1], plan.turn[2 * k]);
    put(k, s + u);
    put(size - k, (s - u).conj());
  }
  put(0, {first + last, first - last});
}

// Lanes of `value` moved up by kShift: those that stay in the vector, and those that go to the next one.
template <typename T, int kShift, int... I>
BC_INLINE std::pair<Vec<T>, Vec<T>> moved_up(Vec<T> value, std::integer_sequence<int, I...>) {
  using Mask = typename Lanes<T>::Mask;
  constexpr int kAll = sizeof...(I);
  const Vec<T> none{};
  return {__builtin_shuffle(value, none, Mask{(I >= kShift ? I - kShift : kAll)...}),
          __builtin_shuffle(value, none, Mask{(I < kShift ? kAll + I - kShift : kAll)...})};
}

// Adds what the last pass gives to the sums. The points of a block are n_fft / R samples apart: where the hop divides that, or
// is a multiple of it, kTerms of them, kShift frames apart each, go to one row of sums, and are added up before.
template <typename T, bool kEven, int kTerms, int kShift>
struct Add {
  const Synthesis<T>& job;
  const int32_t* order;
  int64_t n_fft, t;

  template <int... Term>
  BC_INLINE void rows(int64_t n, int64_t apart, const Vec<T>* values, std::integer_sequence<int, Term...>) const {
    constexpr auto kLane = std::make_integer_sequence<int, kLanes<T>>();
    Vec<T> low{}, high{};
    ((low += moved_up<T, Term * kShift>(values[Term] * job.window[n + Term * apart], kLane).first), ...);
    ((high += moved_up<T, Term * kShift>(values[Term] * job.window[n + Term * apart], kLane).second), ...);
    T* to = job.sums + job.offset[n] + t;
    store<T>(to, load<T>(to) + low);
    if constexpr (kTerms > 1) store<T>(to + kLanes<T>, load<T>(to + kLanes<T>) + high);
  }

  template <int R>
  BC_INLINE void operator()(int64_t place, const Complex<T> (&a)[R]) const {
    if constexpr (R % kTerms == 0) {
      constexpr int kRows = R / kTerms;
      constexpr auto kTerm = std::make_integer_sequence<int, kTerms>();
      const int64_t i = order[place], apart = n_fft / R;
      BC_UNROLL for (int row = 0; row < kRows; ++row) {
        // Real and imaginary parts come exchanged
        Vec<T> even[kTerms], odd[kTerms];
        BC_UNROLL for (int term = 0; term < kTerms; ++term) {
          even[term] = a[row + term * kRows].im;
          odd[term] = a[row + term * kRows].re;
        }
        const int64_t n = (kEven ? 2 * i : i) + row * apart;
        rows(n, kRows * apart, even, kTerm);
        if constexpr (kEven) rows(n + 1, kRows * apart, odd, kTerm);
      }
    }
  }
};

template <typename T, bool kEven, int kTerms, int kShift>
void synthesise_with(const Plan<T>& plan, const Synthesis<T>& job) {
  T* const x = job.work;
  for (int64_t t = 0; t < job.count; t += kLanes<T>) {
    const int64_t frames = job.count - t < kLanes<T> ? job.count - t : kLanes<T>;
    if (job.frame_stride == 2 && frames == kLanes<T>) {
      prepare(plan, Neighbours<T>{job.spectrum + 2 * t, job.bin_stride}, job.edge, x);
    } else {
      gather(job, t, frames, plan.bins(), x);
      prepare(plan, InPlace<T>{x}, job.edge, x);
    }
    transform(plan, InPlace<T>{x}, x, Add<T, kEven, kTerms, kShift>{job, plan.order, plan.n_fft, t});
  }
}

template <typename T>
void synthesise(const Plan<T>& plan, const Synthesis<T>& job) {
  if (!plan.even()) return synthesise_with<T, false, 1, 0>(plan, job);
  const int64_t radix = plan.n_passes == 0 ? 1 : plan.passes[plan.n_passes - 1].radix, apart = plan.n_fft / radix;
  const int64_t terms = job.hop % apart == 0 ? radix * apart / job.hop : apart % job.hop == 0 ? radix : 1;
  const int64_t shift = apart % job.hop == 0 ? apart / job.hop : 1;
  if (plan.n_fft % job.hop == 0 && radix % 2 == 0 && (terms - 1) * shift < kLanes<T>) {
    if (terms == 2 && shift == 1) return synthesise_with<T, true, 2, 1>(plan, job);
    if (terms == 2 && shift == 2) return synthesise_with<T, true, 2, 2>(plan, job);
    if (terms == 4 && shift == 1) return synthesise_with<T, true, 4, 1>(plan, job);
    if (terms == 4 && shift == 2) return synthesise_with<T, true, 4, 2>(plan, job);
    if (terms == 8 && shift == 1) return synthesise_with<T, true, 8, 1>(plan, job);
  }
  synthesise_with<T, true, 1, 0>(plan, job);
}

template <typename T>
constexpr Kernels<T> table() {
  return {kLanes<T>, analyse<T>, synthesise<T>};
}

}  // namespace blackwell_compat::fft::BC_ISA
