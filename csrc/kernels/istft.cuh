// istft: spectra, transformed back, windowed and overlap-added. What the host and the card share.
#pragma once
#include "kernels/fft.cuh"

namespace blackwell_compat {

constexpr int kFarHop = 1 << 30;  // where a block is concerned, all from here on are one

// Frame t begins at sample t * hop of its row, of which `length` from `start` are the result. Strides count complex values.
struct IstftParams {
  const void* spectrum;  // complex (rows, bins, n_frames)
  const void* window;    // n_fft real values in the type of the arithmetic
  void* out;             // (rows, length), complex where is_complex
  void* workspace;       // of large sizes: for each block two buffers and the sums of a stretch
  long long row_stride, bin_stride, frame_stride, n_frames, hop, start, length;
  long long stretches, stretches_of_row;
  double scale;        // factor of the result
  double edge;         // factor of the bins that stand for one frequency, where one-sided
  unsigned by_hop;     // divisor_of the hop, which is kFarHop at most here
  int n_fft, stretch;  // samples of the result that a block makes
  bool one_sided;      // bins up to n_fft / 2, of a real signal
  bool is_complex;     // the imaginary part of the result is wanted
  bool divides;        // by the envelope, the sum of the squared window over frames
  bool frames_adjoin;  // in memory, not the bins
  FftParams fft;
};

}  // namespace blackwell_compat
