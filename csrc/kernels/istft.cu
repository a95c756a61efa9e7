// istft: a block has a stretch of a row of the result. It transforms the frames that reach there, some at a time, and adds them
// in the order of time, so blocks need nothing of each other and the result does not depend on how it is cut.
#include "kernels/fft_passes.cuh"
#include "kernels/istft.cuh"
#include "kernels/platform.cuh"

namespace blackwell_compat {

template <typename A>
struct Istft {
  const IstftParams& p;
  const FftFrame<A>& frame;

  // Bin k of a one-sided spectrum
  __device__ __forceinline__ Complex<A> bin(const Complex<A>* spectrum, int k) const {
    const Complex<A> value = spectrum[k * p.bin_stride];
    return k == 0 || 2 * k == p.n_fft ? Complex<A>{value.x * A(p.edge), 0} : value;
  }

  // Values of a frame that have bins in common are made together, as many times as this says.
  __device__ __forceinline__ int shares() const { return p.fft.turn ? p.fft.points / 2 + 1 : p.fft.points; }

  // Share k of what is transformed to frame `number` of the block
  __device__ __forceinline__ void load(const Complex<A>* spectrum, int number, int k) const {
    const FftFrame<A> of{frame.work, frame.span, number * p.fft.length, 0, 0, true};
    if (p.fft.turn) {
      const int last = p.fft.points - k;
      const Complex<A> low = bin(spectrum, k), high = conjugate(bin(spectrum, last)), even = low + high;
      const Complex<A> odd = times_minus_i(conjugate(static_cast<const Complex<A>*>(p.fft.turn)[k]) * (low - high));
      of.at(0, k) = swapped(even - odd);
      if (k != 0 && k != last) of.at(0, last) = swapped(conjugate(even + odd));
    } else if (p.one_sided) {
      const bool above = k > p.n_fft / 2;
      const Complex<A> value = bin(spectrum, above ? p.n_fft - k : k);
      of.at(0, k) = swapped(above ? conjugate(value) : value);
    } else {
      of.at(0, k) = swapped(spectrum[k * p.bin_stride]);
    }
  }

  // Sample n of frame `number` of the block
  __device__ __forceinline__ Complex<A> sample(int buffer, int number, int n) const {
    const Complex<A>* const of = frame.work + buffer;
    if (!p.fft.turn) return swapped(of[padded<A>(number * p.fft.length + n)]);
    const Complex<A> pair = of[padded<A>(number * p.fft.length + n / 2)];
    return {n % 2 == 0 ? pair.y : pair.x, 0};
  }
};

// Frames that reach a sample, which stands `at` samples behind the begin of frame 0
struct Reach {
  int oldest, newest;

  __device__ __forceinline__ Reach(int at, int n_fft, int hop, unsigned by_hop)
      : oldest(at < n_fft ? 0 : quotient(at - n_fft, hop, by_hop) + 1), newest(at < 0 ? -1 : quotient(at, hop, by_hop)) {}
};

template <typename A, bool kLarge>
__device__ __forceinline__ void istft(const IstftParams& p) {
  BC_SHARED(shared);
  const int span = static_cast<int>(fft_buffer_size(p.fft.frames * p.fft.length, sizeof(A)));
  const int parts = p.is_complex ? 2 : 1, hop = static_cast<int>(min(p.hop, int64_t(kFarHop)));
  const int64_t block_size = 2 * int64_t(span) + (p.stretch * parts + 1) / 2;
  Complex<A>* const work =
      kLarge ? static_cast<Complex<A>*>(p.workspace) + blockIdx.x * block_size : reinterpret_cast<Complex<A>*>(shared);
  A* const sums = reinterpret_cast<A*>(work + 2 * span);
  const A* const window = static_cast<const A*>(p.window);
  const A scale = A(p.scale);
  const int number = threadIdx.x / p.fft.lanes;

  for (int64_t index = blockIdx.x; index < p.stretches; index += gridDim.x) {
    const int64_t row = index / p.stretches_of_row, offset = index % p.stretches_of_row * p.stretch, begin = p.start + offset;
    const int count = static_cast<int>(min(int64_t(p.stretch), p.length - offset));
    const int64_t oldest = begin < p.n_fft ? 0 : (begin - p.n_fft) / p.hop + 1;
    const int reaching = static_cast<int>(min(p.n_frames - 1, (begin + count - 1) / p.hop) - oldest + 1);
    const int ahead = static_cast<int>(max(begin - oldest * p.hop, -int64_t(kFarHop)));  // of frame `oldest`
    for (int i = threadIdx.x; i < count; i += kFftThreads) {
      for (int part = 0; part < parts; ++part) sums[i * parts + part] = 0;
    }

    for (int group = 0; group < reaching; group += p.fft.frames) {
      const int here = min(p.fft.frames, reaching - group);
      const FftFrame<A> frame{work,        span,         number * p.fft.length, static_cast<int>(threadIdx.x) % p.fft.lanes,
                              p.fft.lanes, number < here};
      const Istft<A> istft{p, frame};
      const Complex<A>* const spectrum =
          static_cast<const Complex<A>*>(p.spectrum) + row * p.row_stride + (oldest + group) * p.frame_stride;
      const int columns = p.frames_adjoin ? here : istft.shares(), rows = p.frames_adjoin ? istft.shares() : here;
      for (Walk at(threadIdx.x, kFftThreads, columns); at.row < rows; at.next()) {
        const int of = p.frames_adjoin ? at.column : at.row, k = p.frames_adjoin ? at.row : at.column;
        istft.load(spectrum + of * p.frame_stride, of, k);
      }
      const int buffer = fft(p.fft, frame);
      const int64_t reached = group * p.hop - ahead;  // the first sample of these frames
      const int from = static_cast<int>(max(reached, int64_t(0)));
      const int to = static_cast<int>(min(int64_t(count), reached + (here - 1) * p.hop + p.n_fft));
      for (int i = from + static_cast<int>(threadIdx.x); i < to; i += kFftThreads) {
        const Reach reach(ahead + i, p.n_fft, hop, p.by_hop);
        const int last = min(reach.newest, group + here - 1);
        Complex<A> sum{sums[i * parts], p.is_complex ? sums[i * parts + 1] : A(0)};
        for (int t = max(reach.oldest, group); t <= last; ++t) {
          const int n = ahead + i - t * hop;
          sum = sum + window[n] * istft.sample(buffer, t - group, n);
        }
        sums[i * parts] = sum.x;
        if (p.is_complex) sums[i * parts + 1] = sum.y;
      }
      __syncthreads();
    }

    A* const out = static_cast<A*>(p.out) + (row * p.length + offset) * parts;
    for (int i = threadIdx.x; i < count; i += kFftThreads) {
      A envelope = 0;
      if (p.divides) {
        const Reach reach(ahead + i, p.n_fft, hop, p.by_hop);
        const int last = min(reach.newest, reaching - 1);
        for (int t = reach.oldest; t <= last; ++t) {
          const A value = window[ahead + i - t * hop];
          envelope += value * value;
        }
      }
      if (envelope == 0) envelope = 1;  // no frame is there
      for (int part = 0; part < parts; ++part) out[i * parts + part] = sums[i * parts + part] * scale / envelope;
    }
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_istft_f32, 256, IstftParams, istft<float, false>)
BC_ENTRY(compat_istft_f64, 256, IstftParams, istft<double, false>)
BC_ENTRY(compat_istft_large_f32, 256, IstftParams, istft<float, true>)
BC_ENTRY(compat_istft_large_f64, 256, IstftParams, istft<double, true>)
