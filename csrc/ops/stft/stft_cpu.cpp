// stft_fp32 on the CPU. Blocks of frames that fit in the second-level cache: load with padding, window, transform, store.
#include <ATen/Parallel.h>
#include <c10/util/irange.h>

#include <cstring>

#include "common/dft.h"
#include "ops/stft/stft.h"

namespace blackwell_compat {
namespace {

constexpr int64_t kLargestDirect = 24;  // n_fft: above it the FFT library is quicker

// Reads a row of a signal as if it were padded.
template <typename T>
class Padded {
 public:
  Padded(const T* samples, int64_t length, Pad mode) : samples_(samples), length_(length), mode_(mode) {}

  bool inside(int64_t begin, int64_t count) const { return begin >= 0 && begin + count <= length_; }
  const T* at(int64_t begin) const { return samples_ + begin; }

  void copy(int64_t begin, int64_t count, T* to) const {
    for (const auto i : c10::irange(count)) to[i] = value(begin + i);
  }

 private:
  T value(int64_t i) const {
    if (i >= 0 && i < length_) return samples_[i];
    switch (mode_) {
      case Pad::kReflect:
        return samples_[i < 0 ? -i : 2 * (length_ - 1) - i];
      case Pad::kReplicate:
        return samples_[i < 0 ? 0 : length_ - 1];
      case Pad::kCircular:
        return samples_[i < 0 ? i + length_ : i - length_];
      case Pad::kConstant:
        break;
    }
    return 0;
  }

  const T* samples_;
  const int64_t length_;
  const Pad mode_;
};

template <typename T>
void scale_edges(T* spectrum, int64_t frames, int64_t bins, bool even, T edge) {
  if (edge == 1) return;
  for (const auto t : c10::irange(frames)) {
    T* bin = spectrum + 2 * t * bins;
    bin[0] *= edge;
    if (even) bin[2 * bins - 2] *= edge;
  }
}

// Any n_fft: the FFT library on a block of windowed frames.
template <typename T>
void analyse_block(const Padded<T>& signal, const T* window, int64_t n_fft, int64_t hop, int64_t begin, int64_t frames,
                   const at::TensorOptions& options, T edge, T* out) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const Tensor block = at::empty({frames, n_fft}, options);
  T* row = block.data_ptr<T>();
  for (int64_t t = 0; t < frames; ++t, row += n_fft, begin += hop) {
    const T* from = row;
    if (signal.inside(begin, n_fft)) {
      from = signal.at(begin);
    } else {
      signal.copy(begin, n_fft, row);
    }
    for (const auto n : c10::irange(n_fft)) row[n] = from[n] * window[n];
  }
  const Tensor spectrum = at::_fft_r2c(block, {1}, 0, true);
  const int64_t bins = n_fft / 2 + 1;
  std::memcpy(out, spectrum.const_data_ptr(), frames * bins * 2 * sizeof(T));
  scale_edges(out, frames, bins, n_fft % 2 == 0, edge);
}

// A small n_fft: each frame times the matrix `basis` (n_fft, columns), window and edge folded in; the columns are the real
// and imaginary parts of the bins.
template <typename T>
struct Direct {
  using Vec = typename Lanes<T>::Vec;
  static constexpr int64_t kLanes = Lanes<T>::kCount, kFrames = 4, kVecs = 3;

  static bool handles(int64_t n_fft) { return n_fft <= kLargestDirect && 2 * (n_fft / 2 + 1) >= kLanes; }

  static std::vector<T> basis(const T* window, int64_t n_fft, T edge) {
    const Circle circle(n_fft);
    const int64_t bins = n_fft / 2 + 1;
    std::vector<T> values(n_fft * bins * 2);
    for (const auto n : c10::irange(n_fft)) {
      for (const auto k : c10::irange(bins)) {
        const double factor = static_cast<double>(window[n]) * (k == 0 || 2 * k == n_fft ? edge : 1);
        const int64_t i = n * k % n_fft, at = 2 * (n * bins + k);
        values[at] = static_cast<T>(factor * circle.cos[i]);
        values[at + 1] = static_cast<T>(-factor * circle.sin[i]);
      }
    }
    return values;
  }

  // Vector v of a row starts here: the last one overlaps the one before instead of running over the end.
  static int64_t start(int64_t v, int64_t columns) { return std::min(v * kLanes, columns - kLanes); }

  template <int kRows, int kWide>
  static inline __attribute__((always_inline)) void tile(const T* samples, int64_t hop, const T* basis, int64_t n_fft,
                                                         int64_t columns, int64_t first, T* out) {
    Vec sum[kRows][kWide];
    int64_t at[kWide];
    BC_UNROLL for (int v = 0; v < kWide; ++v) {
      at[v] = start(first + v, columns);
      BC_UNROLL for (int r = 0; r < kRows; ++r) sum[r][v] = Vec{};
    }
    for (int64_t n = 0; n < n_fft; ++n) {
      BC_UNROLL for (int v = 0; v < kWide; ++v) {
        const Vec factor = slot(basis + n * columns + at[v]);
        BC_UNROLL for (int r = 0; r < kRows; ++r) sum[r][v] += samples[r * hop + n] * factor;
      }
    }
    BC_UNROLL for (int r = 0; r < kRows; ++r) {
      BC_UNROLL for (int v = 0; v < kWide; ++v) slot(out + r * columns + at[v]) = sum[r][v];
    }
  }

  template <int kRows>
  static inline __attribute__((always_inline)) void rows(const T* samples, int64_t hop, const T* basis, int64_t n_fft,
                                                         int64_t columns, T* out) {
    const int64_t vecs = (columns + kLanes - 1) / kLanes;
    int64_t v = 0;
    for (; v + kVecs <= vecs; v += kVecs) tile<kRows, kVecs>(samples, hop, basis, n_fft, columns, v, out);
    if (vecs - v == 2) tile<kRows, 2>(samples, hop, basis, n_fft, columns, v, out);
    if (vecs - v == 1) tile<kRows, 1>(samples, hop, basis, n_fft, columns, v, out);
  }

  static inline __attribute__((always_inline)) void frames(const T* samples, int64_t hop, const T* basis, int64_t n_fft,
                                                           int64_t columns, int64_t count, T* out) {
    int64_t t = 0;
    for (; t + kFrames <= count; t += kFrames) rows<kFrames>(samples + t * hop, hop, basis, n_fft, columns, out + t * columns);
    for (; t < count; ++t) rows<1>(samples + t * hop, hop, basis, n_fft, columns, out + t * columns);
  }
};

BC_FMA_CLONES void direct_frames(const float* samples, int64_t hop, const float* basis, int64_t n_fft, int64_t columns,
                                 int64_t count, float* out) {
  Direct<float>::frames(samples, hop, basis, n_fft, columns, count, out);
}

BC_FMA_CLONES void direct_frames(const double* samples, int64_t hop, const double* basis, int64_t n_fft, int64_t columns,
                                 int64_t count, double* out) {
  Direct<double>::frames(samples, hop, basis, n_fft, columns, count, out);
}

template <typename T>
void direct_block(const Padded<T>& signal, const T* basis, int64_t n_fft, int64_t hop, int64_t begin, int64_t frames, T* out) {
  const int64_t count = (frames - 1) * hop + n_fft, columns = 2 * (n_fft / 2 + 1);
  if (signal.inside(begin, count)) return direct_frames(signal.at(begin), hop, basis, n_fft, columns, frames, out);
  std::vector<T> copy(count);
  signal.copy(begin, count, copy.data());
  direct_frames(copy.data(), hop, basis, n_fft, columns, frames, out);
}

template <typename T>
Tensor analyse(const Tensor& signal, const Tensor& window_tensor, const Framing& framing, T edge) {
  const int64_t batch = signal.size(0), length = signal.size(1), n_fft = window_tensor.size(0), bins = n_fft / 2 + 1;
  const int64_t n_frames = framing.n_frames.expect_int(), hop = framing.hop;
  Tensor out = at::empty({batch, n_frames, bins}, signal.options().dtype(at::toComplexType(signal.scalar_type())));
  if (out.numel() == 0) return out;
  const T *samples = signal.const_data_ptr<T>(), *window = window_tensor.const_data_ptr<T>();
  T* result = static_cast<T*>(out.data_ptr());
  const bool direct = Direct<T>::handles(n_fft);
  const auto basis = direct ? Direct<T>::basis(window, n_fft, edge) : std::vector<T>();
  const int64_t step = direct ? 512 : block_frames(n_fft, n_frames, sizeof(T));
  const int64_t blocks = (n_frames + step - 1) / step;
  at::parallel_for(0, batch * blocks, 1, [&](int64_t from, int64_t to) {
    for (const auto i : c10::irange(from, to)) {
      const int64_t row = i / blocks, first = i % blocks * step, frames = std::min(step, n_frames - first);
      const Padded<T> padded(samples + row * length, length, framing.mode);
      const int64_t begin = first * hop - framing.pad;
      T* target = result + 2 * (row * n_frames + first) * bins;
      if (direct) {
        direct_block(padded, basis.data(), n_fft, hop, begin, frames, target);
      } else {
        analyse_block(padded, window, n_fft, hop, begin, frames, signal.options(), edge, target);
      }
    }
  });
  return out;
}

}  // namespace

Tensor analyse_cpu(const Tensor& signal, const Tensor& window, const Framing& framing, double edge) {
  const Tensor w = window.contiguous();
  return signal.scalar_type() == at::kDouble ? analyse<double>(signal, w, framing, edge)
                                             : analyse<float>(signal, w, framing, static_cast<float>(edge));
}

}  // namespace blackwell_compat
