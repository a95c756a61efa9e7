// The passes of a transform (Stockham's): each reads all values from one buffer and writes them in the order of the next.
#pragma once
#include "kernels/fft.cuh"

namespace blackwell_compat {

template <typename A>
struct alignas(2 * sizeof(A)) Complex {
  A x, y;
};
template <typename A>
__device__ __forceinline__ Complex<A> operator+(Complex<A> a, Complex<A> b) {
  return {a.x + b.x, a.y + b.y};
}
template <typename A>
__device__ __forceinline__ Complex<A> operator-(Complex<A> a, Complex<A> b) {
  return {a.x - b.x, a.y - b.y};
}
template <typename A>
__device__ __forceinline__ Complex<A> operator*(Complex<A> a, Complex<A> b) {
  return {a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x};
}
template <typename A>
__device__ __forceinline__ Complex<A> operator*(A a, Complex<A> b) {
  return {a * b.x, a * b.y};
}
// The inverse transform is the transform between two swaps.
template <typename A>
__device__ __forceinline__ Complex<A> swapped(Complex<A> a) {
  return {a.y, a.x};
}
template <typename A>
__device__ __forceinline__ Complex<A> times_minus_i(Complex<A> a) {
  return {a.y, -a.x};
}

template <typename A>
__device__ __forceinline__ int padded(int i) {
  return i + (i >> fft_pad_shift(sizeof(A)));
}

template <typename A>
__device__ __forceinline__ Complex<A> conjugate(Complex<A> a) {
  return {a.x, -a.y};
}

// cos and sin of 2 pi i / R for 0 < i <= R / 2
template <int R>
struct Circle;
template <>
struct Circle<3> {
  static __device__ __forceinline__ constexpr double cosine(int) { return -0.5; }
  static __device__ __forceinline__ constexpr double sine(int) { return 0.86602540378443864676; }
};
template <>
struct Circle<5> {
  static __device__ __forceinline__ constexpr double cosine(int i) {
    return i == 1 ? 0.30901699437494742410 : -0.80901699437494742410;
  }
  static __device__ __forceinline__ constexpr double sine(int i) {
    return i == 1 ? 0.95105651629515357212 : 0.58778525229247312917;
  }
};
template <>
struct Circle<7> {
  static __device__ __forceinline__ constexpr double cosine(int i) {
    return i == 1 ? 0.62348980185873353053 : i == 2 ? -0.22252093395631440429 : -0.90096886790241912624;
  }
  static __device__ __forceinline__ constexpr double sine(int i) {
    return i == 1 ? 0.78183148246802980871 : i == 2 ? 0.97492791218182360702 : 0.43388373911755812048;
  }
};

// v becomes its transform. Odd sizes: value k and value R - k share their sums.
template <int R, typename A>
struct Butterfly {
  static __device__ __forceinline__ void run(Complex<A> (&v)[R]) {
    constexpr int kHalf = R / 2;
    Complex<A> sum[kHalf], difference[kHalf];
    const Complex<A> first = v[0];
#pragma unroll
    for (int q = 1; q <= kHalf; ++q) {
      sum[q - 1] = v[q] + v[R - q], difference[q - 1] = v[q] - v[R - q];
      v[0] = v[0] + sum[q - 1];
    }
#pragma unroll
    for (int k = 1; k <= kHalf; ++k) {
      Complex<A> even = first + A(Circle<R>::cosine(k)) * sum[0], odd = A(Circle<R>::sine(k)) * difference[0];
#pragma unroll
      for (int q = 2; q <= kHalf; ++q) {
        const int turn = q * k % R, i = turn > kHalf ? R - turn : turn;
        even = even + A(Circle<R>::cosine(i)) * sum[q - 1];
        odd = odd + A(turn > kHalf ? -Circle<R>::sine(i) : Circle<R>::sine(i)) * difference[q - 1];
      }
      v[k] = even + times_minus_i(odd), v[R - k] = even - times_minus_i(odd);
    }
  }
};
template <typename A>
struct Butterfly<2, A> {
  static __device__ __forceinline__ void run(Complex<A> (&v)[2]) {
    const Complex<A> first = v[0];
    v[0] = first + v[1], v[1] = first - v[1];
  }
};
template <typename A>
struct Butterfly<4, A> {
  static __device__ __forceinline__ void run(Complex<A> (&v)[4]) {
    const Complex<A> a = v[0] + v[2], b = v[0] - v[2], c = v[1] + v[3], d = times_minus_i(v[1] - v[3]);
    v[0] = a + c, v[1] = b + d, v[2] = a - c, v[3] = b - d;
  }
};
template <typename A>
struct Butterfly<8, A> {
  static __device__ __forceinline__ void run(Complex<A> (&v)[8]) {
    const A half_turn = A(0.70710678118654752440);
    Complex<A> even[4] = {v[0], v[2], v[4], v[6]}, odd[4] = {v[1], v[3], v[5], v[7]};
    Butterfly<4, A>::run(even);
    Butterfly<4, A>::run(odd);
    odd[1] = half_turn * (odd[1] + times_minus_i(odd[1]));
    odd[2] = times_minus_i(odd[2]);
    odd[3] = half_turn * (times_minus_i(odd[3]) - odd[3]);
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = even[k] + odd[k], v[k + 4] = even[k] - odd[k];
  }
};

// A frame's place in the two buffers, each of `span` values, and the thread's part of the work on it.
template <typename A>
struct FftFrame {
  Complex<A>* work;
  int span, base, lane, lanes;
  bool active;  // a frame that is not there has no values

  __device__ __forceinline__ Complex<A>& at(int buffer, int i) const { return work[buffer + padded<A>(base + i)]; }

  // visit(q, value) of the R values i + q * apart of a buffer, which lie one distance apart where that is whole groups.
  template <int R, typename Visit>
  __device__ __forceinline__ void each(int buffer, int i, int apart, const Visit& visit) const {
    if (apart % (1 << fft_pad_shift(sizeof(A))) == 0) {
      Complex<A>* const first = &at(buffer, i);
      const int distance = padded<A>(apart);
#pragma unroll
      for (int q = 0; q < R; ++q) visit(q, first[q * distance]);
    } else {
#pragma unroll
      for (int q = 0; q < R; ++q) visit(q, at(buffer, i + q * apart));
    }
  }
};

template <int R, typename A>
__device__ __forceinline__ void fft_pass(const FftFrame<A>& frame, int from, int to, int length, int size, unsigned by_size,
                                         const Complex<A>* twiddles) {
  const int apart = length / R;
  for (int j = frame.lane; j < apart; j += frame.lanes) {
    const int k = j - quotient(j, size, by_size) * size;
    Complex<A> v[R];
    frame.template each<R>(from, j, apart, [&](int q, const Complex<A>& value) { v[q] = value; });
    if (size > 1) {
#pragma unroll
      for (int q = 1; q < R; ++q) v[q] = v[q] * twiddles[(q - 1) * size + k];
    }
    Butterfly<R, A>::run(v);
    frame.template each<R>(to, (j - k) * R + k, size, [&](int q, Complex<A>& value) { value = v[q]; });
  }
}

template <typename A>
__device__ __forceinline__ void fft_pass_of_any(const FftFrame<A>& frame, int from, int to, int length, int size, int radix,
                                                const Complex<A>* roots) {
  const int apart = length / radix, whole = radix * size;
  for (int i = frame.lane; i < length; i += frame.lanes) {
    const int k = i % whole, j = i / whole * size + k % size;
    Complex<A> sum = frame.at(from, j);
    for (int q = 1, root = k; q < radix; ++q, root += k) {
      root -= root >= whole ? whole : 0;
      sum = sum + frame.at(from, j + q * apart) * roots[root];
    }
    frame.at(to, i) = sum;
  }
}

// From buffer `from`, before which the block met at a barrier; returns the buffer with the result, after another barrier.
template <typename A>
__device__ __forceinline__ int fft_passes(const FftParams& p, const FftFrame<A>& frame, int from) {
  const Complex<A>* twiddles = static_cast<const Complex<A>*>(p.twiddles);
  for (int pass = 0, size = 1; pass < p.passes; ++pass) {
    const int radix = p.radix[pass], to = frame.span - from;
    if (frame.active) {
      switch (radix) {
        case 2:
          fft_pass<2>(frame, from, to, p.length, size, p.by_size[pass], twiddles);
          break;
        case 3:
          fft_pass<3>(frame, from, to, p.length, size, p.by_size[pass], twiddles);
          break;
        case 4:
          fft_pass<4>(frame, from, to, p.length, size, p.by_size[pass], twiddles);
          break;
        case 5:
          fft_pass<5>(frame, from, to, p.length, size, p.by_size[pass], twiddles);
          break;
        case 7:
          fft_pass<7>(frame, from, to, p.length, size, p.by_size[pass], twiddles);
          break;
        case 8:
          fft_pass<8>(frame, from, to, p.length, size, p.by_size[pass], twiddles);
          break;
        default:
          fft_pass_of_any(frame, from, to, p.length, size, radix, twiddles);
      }
    }
    twiddles += fft_table_size(radix, size);
    size *= radix, from = to;
    __syncthreads();
  }
  return from;
}

// The transform of the values that the threads of the block put into buffer 0; returns the buffer with the result, after a
// barrier. With a chirp it is a convolution (Bluestein's), of which the second transform is the inverse.
template <typename A>
__device__ __forceinline__ int fft(const FftParams& p, const FftFrame<A>& frame) {
  __syncthreads();
  if (!p.chirp) return fft_passes(p, frame, 0);
  const auto *chirp = static_cast<const Complex<A>*>(p.chirp), *filter = static_cast<const Complex<A>*>(p.filter);
  const int end = frame.active ? p.length : 0, points = frame.active ? p.points : 0;
  for (int i = frame.lane; i < end; i += frame.lanes) {
    frame.at(0, i) = i < points ? frame.at(0, i) * chirp[i] : Complex<A>{0, 0};
  }
  __syncthreads();
  int from = 0;
  for (int inverse = 0; inverse < 2; ++inverse) {
    from = fft_passes(p, frame, from);
    for (int i = frame.lane; i < (inverse ? points : end); i += frame.lanes) {
      Complex<A>& value = frame.at(from, i);
      value = inverse ? swapped(value) * chirp[i] : swapped(value * filter[i]);
    }
    __syncthreads();
  }
  return from;
}

// Runs through rows of `size` elements, `step` elements further each time.
struct Walk {
  int row, column;
  const int size, rows, columns;

  __device__ __forceinline__ Walk(int begin, int step, int size)
      : row(begin / size), column(begin % size), size(size), rows(step / size), columns(step % size) {}
  __device__ __forceinline__ void next() {
    row += rows, column += columns;
    if (column >= size) column -= size, ++row;
  }
};

}  // namespace blackwell_compat
