// stft_fp32: the short-time Fourier transform, computed in float32 or above.
#pragma once
#include <algorithm>

#include "common/ceil_div.h"
#include "common/check.h"
#include "common/dispatch.h"
#include "kernels/stft.cuh"

namespace blackwell_compat {

// Frames that the FFT library gets at once: 512 KiB of samples, less where that would make fewer than four blocks. Of the
// sizes alone, so that the result does not depend on the number of threads.
inline int64_t block_frames(int64_t n_fft, int64_t n_frames, int64_t sample_bytes) {
  const int64_t fit = (512 << 10) / (n_fft * sample_bytes), quarter = std::max<int64_t>(16, ceil_div(n_frames, 4));
  return std::clamp<int64_t>(std::min(fit, quarter), 1, 512);
}

// How a signal is cut into frames; frame t begins `pad` samples before sample t * hop of the signal.
struct Framing {
  int64_t hop, pad;  // samples
  Pad mode;          // what stands outside the signal
  c10::SymInt n_frames;
};

// The real dtype in which a transform of `input` with `window` is computed: float32, or float64 where one of them is that.
at::ScalarType spectral_dtype(const Tensor& input, const OptTensor& window);

// The window centred in n_fft samples, ones where none is given, times `scale`; differentiable.
Tensor full_window(const OptTensor& window, int64_t win_length, int64_t n_fft, double scale, const at::TensorOptions& options);

// The transform of signal (B, L) with window (n_fft,), by ATen's operators: (B, bins, frames). Any device, differentiable.
Tensor analyse_aten(const Tensor& signal, const Tensor& window, const Framing& framing, bool onesided);

// What analyse_aten does, for a contiguous real signal and window on the CPU and one-sided: (B, frames, bins). The bins that
// stand for one frequency, the first and for even n_fft the last, are multiplied by `edge`.
Tensor analyse_cpu(const Tensor& signal, const Tensor& window, const Framing& framing, double edge);

// On a card: the window as full_window makes it, in the real dtype that `options` say, contiguous and aligned.
Tensor full_window_cuda(const OptTensor& window, int64_t win_length, int64_t n_fft, double scale,
                        const at::TensorOptions& options);

// The window for a transform of `input`, as full_window makes it in the real `dtype`: on a card by an op of
// its own.
Tensor prepared_window(const Tensor& input, const OptTensor& window, int64_t win_length, int64_t n_fft, double scale,
                       at::ScalarType dtype);

// `input` on a card in `dtype`, real as real and complex as complex.
Tensor converted_cuda(const Tensor& input, at::ScalarType dtype);

// Whether a card's transforms are computed by this package's kernels: a real window, n_fft not too large.
bool transforms_on_card(const Tensor& input, const OptTensor& window, int64_t n_fft);

enum class Bins : int8_t { kOneSided, kAll, kZeroAbove };  // the last: as many as all, those above n_fft / 2 are zero

// What analyse_aten does for a signal of any strides on a card, real or complex, in the dtype of the window, which
// full_window_cuda made, or a half: (B, frames, bins). The window is multiplied by `scale`; `edge` as for analyse_cpu.
Tensor analyse_cuda(const Tensor& signal, const Tensor& window, const Framing& framing, Bins bins, double scale, double edge);

// What padding did to a signal of `length`, backwards: padded (B, length + 2 * pad), contiguous on a card, to (B, length).
Tensor unpad_cuda(const Tensor& padded, const Framing& framing);

// The same values in the memory order of torch.stft: the bins of a frame lie side by side.
inline Tensor frames_major(const Tensor& spectrum) { return spectrum.transpose(-1, -2).contiguous().transpose(-1, -2); }

inline Tensor empty_frames_major(const c10::SymInt& batch, const c10::SymInt& bins, const c10::SymInt& frames,
                                 const at::TensorOptions& options) {
  return at::empty_symint({batch, frames, bins}, options).transpose(1, 2);
}

}  // namespace blackwell_compat
