// The transforms of fft_kernel.h: a plan's passes over the points of kLanes frames at a time.
#pragma once
#include "common/fft.h"
#include "common/fft_vector.h"

namespace blackwell_compat::fft::BC_ISA {

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

// Memory that is read or written soon, asked for a few lines at each butterfly: the processor does not foresee it, and all at
// once would keep it waiting.
class Ahead {
 public:
  Ahead() = default;
  template <typename T>
  explicit Ahead(const Plan<T>& plan) {
    for (int i = 0; i < plan.n_passes; ++i) butterflies_ += plan.size / plan.passes[i].radix;
  }

  // `wide` bytes at each of `count` places `stride` values apart.
  template <typename T>
  BC_INLINE void read(const T* at, int64_t count, int64_t stride, int64_t wide) {
    read_ = lines(at, count, stride * static_cast<int64_t>(sizeof(T)), wide);
  }
  template <typename T>
  BC_INLINE void read(const T* at, int64_t count) {
    read_ = lines(at, count);
  }
  BC_INLINE void read_nothing() { read_ = {}; }
  template <typename T>
  BC_INLINE void write(const T* at, int64_t count) {
    written_ = lines(at, count);
  }

  BC_INLINE void step() {
    read_.template ask<0>();
    written_.template ask<1>();
  }

 private:
  static constexpr int64_t kLine = 64, kTwoLines = 128, kMost = 300 << 10;  // bytes; more would push out what is computed with

  struct Lines {
    const char* at;
    int64_t left, stride, wide, at_once;

    template <int kForWriting>
    BC_INLINE void ask() {
      for (int64_t i = 0; i < at_once && left > 0; ++i, --left, at += stride) {
        for (int64_t byte = 0; byte < wide; byte += kLine) __builtin_prefetch(at + byte, kForWriting);
      }
    }
  };

  BC_INLINE Lines lines(const void* at, int64_t count, int64_t stride, int64_t wide) const {
    if (butterflies_ == 0 || count * wide > kMost) return {};
    return {static_cast<const char*>(at), count, stride, wide, ceil_div(count, butterflies_)};
  }
  template <typename T>
  BC_INLINE Lines lines(const T* at, int64_t count) const {
    return lines(at, ceil_div(count * static_cast<int64_t>(sizeof(T)), kTwoLines), kTwoLines, kTwoLines);
  }

  int64_t butterflies_ = 0;
  Lines read_{}, written_{};
};

template <int R, bool kTurned, typename T, typename Source>
BC_INLINE void butterfly(const Source& source, int64_t i, int64_t apart, const T* twiddles, const T* roots, T* x, Ahead& ahead) {
  ahead.step();
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
BC_INLINE void split_block(const Source& source, const Pass<T>& pass, T* x, Ahead& ahead) {
  const int64_t apart = pass.size / R;
  butterfly<R, false>(source, 0, apart, pass.twiddles, pass.roots, x, ahead);
  for (int64_t i = 1; i < apart; ++i) {
    butterfly<R, true>(source, i, apart, pass.twiddles + 2 * (R - 1) * i, pass.roots, x, ahead);
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
__attribute__((noinline)) void first_pass(const Source& source, const Pass<T>& pass, T* x, Ahead& ahead) {
  with_radix(pass.radix, [&](auto radix) { split_block<radix.value>(source, pass, x, ahead); });
}

template <typename T>
__attribute__((noinline)) void middle_pass(const Pass<T>& pass, T* x, int64_t points, Ahead& ahead) {
  with_radix(pass.radix, [&](auto radix) {
    for (T* end = point(x, points); x != end; x = point(x, pass.size)) split_block<radix.value>(InPlace<T>{x}, pass, x, ahead);
  });
}

// The last pass over the points at `place` and the following, whose results take their places in x.
template <typename T, typename Source>
__attribute__((noinline)) void last_pass(const Pass<T>& pass, const Source& source, int64_t place, int64_t points, T* x,
                                         Ahead& ahead) {
  with_radix(pass.radix, [&](auto radix) {
    for (int64_t end = place + points; place < end; place += radix.value) {
      ahead.step();
      Complex<T> a[radix.value];
      BC_UNROLL for (int k = 0; k < radix.value; ++k) a[k] = source(place + k);
      dft(a, pass.roots);
      BC_UNROLL for (int k = 0; k < radix.value; ++k) store_point(point(x, place + k), a[k]);
    }
  });
}

// The forward transform of what `source` gives, in x: each point at its place. Each part that the first pass leaves goes
// through all other passes while it is in the first-level cache.
template <typename T, typename Source>
BC_INLINE void transform(const Plan<T>& plan, const Source& source, T* x, Ahead& ahead) {
  if (plan.n_passes == 0) return store_point(x, source(0));
  const Pass<T>&first = plan.passes[0], &last = plan.passes[plan.n_passes - 1];
  if (plan.n_passes == 1) return last_pass(last, source, 0, plan.size, x, ahead);
  first_pass(source, first, x, ahead);
  const int64_t part = plan.size / first.radix;
  for (int64_t at = 0; at < plan.size; at += part) {
    for (int i = 1; i < plan.n_passes - 1; ++i) middle_pass(plan.passes[i], point(x, at), part, ahead);
    last_pass(last, InPlace<T>{x}, at, part, x, ahead);
  }
}

}  // namespace blackwell_compat::fft::BC_ISA
