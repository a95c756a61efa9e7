// stft_fp32 on the CPU. Blocks of frames that fit in the second-level cache: load with padding, window, transform, store.
#include <ATen/Parallel.h>
#include <c10/util/irange.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/cpu.h"
#include "common/fft.h"
#include "common/transpose.h"
#include "ops/stft/stft.h"

namespace blackwell_compat {
namespace {

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

// Sizes that common/fft.h leaves: the FFT library on a block of windowed frames.
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

// The frames of one call, transformed side by side.
template <typename T>
class Frames {
 public:
  Frames(const T* window, int64_t n_fft, int64_t hop, int64_t n_frames, T edge)
      : plan_(fft::plan<T>(n_fft)), window_(window, window + n_fft), offset_(n_fft), hop_(hop), edge_(edge) {
    const int64_t lanes = fft::kernels<T>().lanes, row_bytes = columns() * static_cast<int64_t>(sizeof(T));
    const int64_t fit = std::clamp<int64_t>((64 << 10) / row_bytes, lanes, 512);
    frames_ = ceil_div(std::min(fit, ceil_div(n_frames, 4)), lanes) * lanes;
    wide_ = frames_ + ceil_div(n_fft, hop) - 1;
    for (const auto n : c10::irange(n_fft)) offset_[n] = static_cast<int32_t>(n % hop * wide_ + n / hop);
    if (plan_->even()) {
      for (T& value : window_) value /= 2;
    }
  }

  int64_t block() const { return frames_; }

  // Frames that begin at sample `begin` of the signal, `count` of them, at most block()
  void operator()(const Padded<T>& signal, int64_t begin, int64_t count, T* out) const {
    const int64_t n_fft = plan_->n_fft, samples = (count - 1) * hop_ + n_fft, by_hop_size = columns() * wide_;
    const int64_t work_size = fft::work_size(*plan_);
    T* work = reinterpret_cast<T*>(scratch(kFrames, (work_size + by_hop_size + samples) * sizeof(T)));
    T *by_hop = work + work_size, *copy = by_hop + by_hop_size;
    const T* from = copy;
    if (signal.inside(begin, samples)) {
      from = signal.at(begin);
    } else {
      signal.copy(begin, samples, copy);
    }
    arrange(from, samples, count, by_hop);
    fft::kernels<T>().analyse(*plan_, {by_hop, offset_.data(), window_.data(), count, edge_, work, out});
  }

 private:
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

  int64_t columns() const { return std::min(hop_, plan_->n_fft); }

  // Sample h * hop + r of `from` to to[r * wide_ + h]: the same sample of neighbouring frames lies side by side.
  void arrange(const T* from, int64_t samples, int64_t count, T* to) const {
    const int64_t rows = (samples - columns()) / hop_ + 1, rest = samples - rows * hop_;
    if (count % fft::kernels<T>().lanes != 0) std::memset(to, 0, columns() * wide_ * sizeof(T));
    transpose(reinterpret_cast<const Bits*>(from), hop_, rows, columns(), reinterpret_cast<Bits*>(to), wide_);
    for (int64_t r = 0; r < rest; ++r) to[r * wide_ + rows] = from[rows * hop_ + r];
  }

  const std::shared_ptr<const fft::Plan<T>> plan_;
  std::vector<T> window_;
  std::vector<int32_t> offset_;
  const int64_t hop_;
  const T edge_;
  int64_t frames_, wide_;
};

template <typename T>
Tensor analyse(const Tensor& signal, const Tensor& window_tensor, const Framing& framing, T edge) {
  const int64_t batch = signal.size(0), length = signal.size(1), n_fft = window_tensor.size(0), bins = n_fft / 2 + 1;
  const int64_t n_frames = framing.n_frames.expect_int(), hop = framing.hop;
  Tensor out = at::empty({batch, n_frames, bins}, signal.options().dtype(at::toComplexType(signal.scalar_type())));
  if (out.numel() == 0) return out;
  const T *samples = signal.const_data_ptr<T>(), *window = window_tensor.const_data_ptr<T>();
  T* result = static_cast<T*>(out.data_ptr());
  const auto run = [&](int64_t step, const auto& block) {
    const int64_t blocks = ceil_div(n_frames, step);
    at::parallel_for(0, batch * blocks, 1, [&](int64_t from, int64_t to) {
      for (const auto i : c10::irange(from, to)) {
        const int64_t row = i / blocks, first = i % blocks * step;
        block(Padded<T>(samples + row * length, length, framing.mode), first * hop - framing.pad,
              std::min(step, n_frames - first), result + 2 * (row * n_frames + first) * bins);
      }
    });
  };
  if (fft::handles(n_fft)) {
    const Frames<T> frames(window, n_fft, hop, n_frames, edge);
    run(frames.block(), frames);
  } else {
    run(block_frames(n_fft, n_frames, sizeof(T)), [&](const Padded<T>& padded, int64_t begin, int64_t frames, T* to) {
      analyse_block(padded, window, n_fft, hop, begin, frames, signal.options(), edge, to);
    });
  }
  return out;
}

}  // namespace

Tensor analyse_cpu(const Tensor& signal, const Tensor& window, const Framing& framing, double edge) {
  const Tensor w = window.contiguous();
  return signal.scalar_type() == at::kDouble ? analyse<double>(signal, w, framing, edge)
                                             : analyse<float>(signal, w, framing, static_cast<float>(edge));
}

}  // namespace blackwell_compat
