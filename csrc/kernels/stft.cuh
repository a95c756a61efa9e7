// stft: frames of a signal, windowed and transformed. What the host and the card share.
#pragma once
#include "kernels/fft.cuh"

namespace blackwell_compat {

// What stands outside a signal.
enum class Pad : signed char { kConstant, kReflect, kReplicate, kCircular };

// Frame t begins `pad` samples before sample t * hop of its row. Strides count samples, which are pairs where complex.
struct StftParams {
  const void* signal;
  const void* window;  // n_fft real values in the type of the arithmetic, aligned as pairs of them
  void* out;           // complex (rows of the signal, n_frames, bins)
  void* workspace;     // of large sizes: two buffers for each block
  long long row_stride, sample_stride, length, hop, pad, n_frames;
  long long frames;  // of all rows
  double scale;      // factor of the window
  double edge;       // factor of the bins that stand for one frequency, of a real signal
  int n_fft, bins;
  Pad mode;
  bool is_complex;
  bool mirrors;  // the bins above n_fft / 2 of a real signal are the conjugates of those below; else zero
  FftParams fft;
};

}  // namespace blackwell_compat
