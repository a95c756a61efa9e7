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
    for (int i = frame.lane; i < p.fft.points; i += frame.lanes) {
      if (p.fft.turn) {
        frame.at(0, i) = {windowed(row, begin, 2 * i, 1, 0), windowed(row, begin, 2 * i + 1, 1, 0)};
      } else {
        frame.at(0, i) = {windowed(row, begin, i, parts, 0), p.is_complex ? windowed(row, begin, i, parts, 1) : A(0)};
      }
    }
  }

  // Of the frame that begins at sample `begin`: a part of its value n
  __device__ __forceinline__ A windowed(const T* row, int64_t begin, int n, int parts, int part) const {
    const int64_t source = padded_source(begin + n, p.length, p.mode);
    if (source < 0) return 0;
    return to_float(row[source * p.sample_stride * parts + part]) * (static_cast<const A*>(p.window)[n] * scale);
  }

  // Bin k of frame number `number` of the block
  __device__ __forceinline__ Complex<A> bin(int buffer, int number, int k) const {
    const FftFrame<A> of{frame.work, frame.span, number * p.fft.length, 0, 0, true};
    if (p.is_complex) return of.at(buffer, k);
    const bool above = k > p.n_fft / 2;
    if (above && !p.mirrors) return {0, 0};
    if (above) k = p.n_fft - k;
    Complex<A> value;
    if (p.fft.turn) {
      const int points = p.fft.points;
      const Complex<A> pair = of.at(buffer, k == points ? 0 : k), other = of.at(buffer, k == 0 ? 0 : points - k);
      const Complex<A> even{pair.x + other.x, pair.y - other.y}, odd{pair.x - other.x, pair.y + other.y};
      value = even + times_minus_i(static_cast<const Complex<A>*>(p.fft.turn)[k] * odd);
    } else {
      value = of.at(buffer, k);
    }
    if (k == 0 || 2 * k == p.n_fft) value = {value.x * A(p.edge), 0};
    return above ? Complex<A>{value.x, -value.y} : value;
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
    for (Walk at(threadIdx.x, kFftThreads, p.bins); at.row < count; at.next()) {
      out[at.row * int64_t(p.bins) + at.column] = stft.bin(buffer, at.row, at.column);
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
