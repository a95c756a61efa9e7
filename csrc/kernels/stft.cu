// stft: a block has some frames. They are read where they overlap, not copied; their bins are one stretch of the result.
#include "kernels/fft_passes.cuh"
#include "kernels/platform.cuh"
#include "kernels/stft.cuh"

namespace blackwell_compat {

// The sample of a row of `length` that stands at i of the padded row; -1: a zero
__device__ __forceinline__ int64_t padded_source(int64_t i, int64_t length, Pad mode) {
  if (static_cast<unsigned long long>(i) < static_cast<unsigned long long>(length)) return i;
  switch (mode) {
    case Pad::kReflect:
      return i < 0 ? -i : 2 * (length - 1) - i;
    case Pad::kReplicate:
      return i < 0 ? 0 : length - 1;
    case Pad::kCircular:
      return i < 0 ? i + length : i - length;
    default:
      return -1;
  }
}

// The values of a frame that lies within its row, side by side
template <typename T>
struct InnerFrame {
  const T* from;
  int parts;

  __device__ __forceinline__ auto operator()(int n, int part) const { return to_float(from[n * parts + part]); }
};

template <typename T>
struct PaddedFrame {
  const T* row;
  int64_t begin, length, stride;
  int parts;
  Pad mode;

  __device__ __forceinline__ decltype(to_float(T())) operator()(int n, int part) const {
    const int64_t source = padded_source(begin + n, length, mode);
    return source < 0 ? 0 : to_float(row[source * stride * parts + part]);
  }
};

template <typename T>
struct Stft {
  using A = decltype(to_float(T()));
  const StftParams& p;
  const FftFrame<A>& frame;
  const A scale;

  // Frame number `number` of all rows, to buffer 0
  __device__ __forceinline__ void load(int64_t number) const {
    const int parts = p.is_complex ? 2 : 1;
    const T* const row = static_cast<const T*>(p.signal) + number / p.n_frames * p.row_stride * parts;
    const int64_t begin = number % p.n_frames * p.hop - p.pad;
    if (begin >= 0 && begin + p.n_fft <= p.length && p.sample_stride == 1) {
      window(InnerFrame<T>{row + begin * parts, parts});
    } else {
      window(PaddedFrame<T>{row, begin, p.length, p.sample_stride, parts, p.mode});
    }
  }

  template <typename Values>
  __device__ __forceinline__ void window(const Values& values) const {
    for (int i = frame.lane; i < p.fft.points; i += frame.lanes) {
      if (p.fft.turn) {
        const Complex<A> factor = scale * static_cast<const Complex<A>*>(p.window)[i];
        frame.at(0, i) = {values(2 * i, 0) * factor.x, values(2 * i + 1, 0) * factor.y};
      } else {
        const A factor = scale * static_cast<const A*>(p.window)[i];
        frame.at(0, i) = {values(i, 0) * factor, p.is_complex ? values(i, 1) * factor : A(0)};
      }
    }
  }

  // Bins of a frame that have values in common are stored together, as many times as this says.
  __device__ __forceinline__ int shares() const {
    return p.is_complex ? p.n_fft : p.fft.turn ? p.fft.points / 2 + 1 : p.n_fft / 2 + 1;
  }

  // Share k of frame number `number` of the block
  __device__ __forceinline__ void store(int buffer, int number, int k, Complex<A>* out) const {
    const FftFrame<A> of{frame.work, frame.span, number * p.fft.length, 0, 0, true};
    const Complex<A> value = of.at(buffer, k);
    if (p.is_complex) {
      out[k] = value;
    } else if (p.fft.turn) {
      const int last = p.fft.points - k;
      const Complex<A> other = conjugate(of.at(buffer, k == 0 ? 0 : last)), even = value + other;
      const Complex<A> odd = times_minus_i(static_cast<const Complex<A>*>(p.fft.turn)[k] * (value - other));
      store_real(k, even + odd, out);
      if (k != last) store_real(last, conjugate(even - odd), out);
    } else {
      store_real(k, value, out);
    }
  }

  // Bin k <= n_fft / 2, and the one above that it mirrors
  __device__ __forceinline__ void store_real(int k, Complex<A> value, Complex<A>* out) const {
    const bool alone = k == 0 || 2 * k == p.n_fft;
    out[k] = alone ? Complex<A>{value.x * A(p.edge), 0} : value;
    if (!alone && p.n_fft - k < p.bins) out[p.n_fft - k] = p.mirrors ? conjugate(value) : Complex<A>{0, 0};
  }
};

template <typename T, bool kLarge>
__device__ __forceinline__ void stft(const StftParams& p) {
  using A = typename Stft<T>::A;
  BC_SHARED(shared);
  const int span = static_cast<int>(fft_buffer_size(p.fft.frames * p.fft.length, sizeof(A)));
  Complex<A>* const work =
      kLarge ? static_cast<Complex<A>*>(p.workspace) + int64_t(blockIdx.x) * 2 * span : reinterpret_cast<Complex<A>*>(shared);
  const int number = threadIdx.x / p.fft.lanes;
  for (int64_t first = int64_t(blockIdx.x) * p.fft.frames; first < p.frames; first += int64_t(gridDim.x) * p.fft.frames) {
    const int count = static_cast<int>(min(int64_t(p.fft.frames), p.frames - first));
    const FftFrame<A> frame{work,        span,          number * p.fft.length, static_cast<int>(threadIdx.x) % p.fft.lanes,
                            p.fft.lanes, number < count};
    const Stft<T> stft{p, frame, A(p.scale)};
    if (frame.active) stft.load(first + number);
    const int buffer = fft(p.fft, frame);
    Complex<A>* const out = static_cast<Complex<A>*>(p.out) + first * p.bins;
    for (Walk at(threadIdx.x, kFftThreads, stft.shares()); at.row < count; at.next()) {
      stft.store(buffer, at.row, at.column, out + at.row * int64_t(p.bins));
    }
    __syncthreads();
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_stft_f32, 256, StftParams, stft<float, false>)
BC_ENTRY(compat_stft_f16, 256, StftParams, stft<f16, false>)
BC_ENTRY(compat_stft_bf16, 256, StftParams, stft<bf16, false>)
BC_ENTRY(compat_stft_f64, 256, StftParams, stft<double, false>)
BC_ENTRY(compat_stft_large_f32, 256, StftParams, stft<float, true>)
BC_ENTRY(compat_stft_large_f64, 256, StftParams, stft<double, true>)
