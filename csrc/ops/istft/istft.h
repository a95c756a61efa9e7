// istft_fp32: the inverse short-time Fourier transform, computed in float32 or above.
#pragma once
#include "ops/stft/stft.h"

namespace blackwell_compat {

// The samples that stay of the overlap-added frames: `length` from `start`, counted from the first sample of the first frame.
struct Trim {
  int64_t start;
  c10::SymInt length;
};

// Frames from spectrum (B, bins, frames), one-sided unless complex, times window (n_fft,), overlap-added: (B, length).
// The transform has no factor. Zero where no frame reaches. Any device, differentiable.
Tensor synthesise_aten(const Tensor& spectrum, const Tensor& window, int64_t hop, const Trim& trim, bool complex_output);

// The same for a one-sided spectrum and real window on the CPU. The bins that stand for one frequency, the first and for
// even n_fft the last, are multiplied by `edge` before. The result is divided by `envelope`, where defined.
Tensor synthesise_cpu(const Tensor& spectrum, const Tensor& window, int64_t hop, const Trim& trim, double edge,
                      const Tensor& envelope_window);

// 1 / (the sum of the squared window over the frames) for each sample that `trim` keeps; float64 inside. Throws
// istft's error where the sum is below 1e-11.
Tensor inverse_envelope_cpu(const Tensor& window, int64_t hop, int64_t n_frames, const Trim& trim);

struct Synthesis {
  double scale, edge;  // factors of the window, and of the bins as for synthesise_cpu
  bool one_sided;      // the spectrum; bins above n_fft / 2 are not read
  bool complex_output;
  bool divides;  // by the sum of the squared window over the frames
};

// What synthesise_aten does, for a spectrum of any strides and a window of full_window_cuda on a card.
Tensor synthesise_cuda(const Tensor& spectrum, const Tensor& window, int64_t hop, const Trim& trim, const Synthesis& synthesis);

// grad (B, length), of any strides and real or complex, divided by that sum: contiguous.
Tensor divide_by_envelope_cuda(const Tensor& grad, const Tensor& window, int64_t hop, int64_t n_frames, int64_t start);

// Throws istft's error where that sum is below 1e-11 at a sample that `trim` keeps. The window's values are copied to the host
// once and remembered until it changes, or each time where nobody could tell: an inference tensor's on a card that the fallback
// does not serve. Copied they are not while a CUDA graph is captured, which is an error, too.
void check_envelope_cuda(const OptTensor& window, int64_t win_length, int64_t n_fft, int64_t hop, int64_t n_frames,
                         const Trim& trim);

}  // namespace blackwell_compat
