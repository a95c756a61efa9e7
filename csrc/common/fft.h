// The Fourier transform of many real frames at once, for the short-time transforms on the CPU. Frames lie side by side in
// vector registers, so no step of the transform moves values between lanes and one plan serves any number of frames.
#pragma once
#include <cstdint>
#include <memory>

#include "common/ceil_div.h"

namespace blackwell_compat::fft {

// One pass splits blocks of `size` points into `radix` smaller ones (decimation in frequency, in place).
template <typename T>
struct Pass {
  int64_t radix, size;
  const T* twiddles;  // cos, sin of -2 pi i k / size at 2 * (i * (radix - 1) + k - 1), for 0 < k < radix
  const T* roots;     // cos, sin of 2 pi k / radix at 2 * k, for k < radix
};

template <typename T>
struct Plan {
  static constexpr int kMostPasses = 16;

  int64_t n_fft;  // real samples of a frame
  int64_t size;   // points of the complex transform: n_fft / 2 pairs of samples, or n_fft where that is odd
  int n_passes;
  Pass<T> passes[kMostPasses];
  const int32_t* place;   // the place at which each point of the result ends
  const int32_t* sample;  // where a sample ends if the result is one's inverse: vector 0 is the real part at place 0, 1 the other
  const T* turn;          // cos, sin of 2 pi k / n_fft at 2 * k, for k <= size / 2

  bool even() const { return size != n_fft; }
  int64_t bins() const { return n_fft / 2 + 1; }
};

// Sizes that are quicker here than in the FFT library: not too large, and without a prime factor above 13.
bool handles(int64_t n_fft);

// The plan of a size that `handles` allows; kept for later calls.
template <typename T>
std::shared_ptr<const Plan<T>> plan(int64_t n_fft);

// Sample n of frame t is samples[offset[n] + t] * window[n]. Lanes beyond `count` are read and computed, not stored.
template <typename T>
struct Analysis {
  const T* samples;
  const int32_t* offset;
  const T* window;  // halved where the plan is even
  int64_t count;    // frames
  T edge;           // factor of the first bin, and for even n_fft of the last
  T* work;          // work_size(plan) values
  T* out;           // (count, bins) complex values
};

// Frames transformed back, times the window, and added where they overlap; no factor 1 / n_fft. Row h of the result, samples
// [h * hop, (h + 1) * hop) of the sum, is what frames up to h add there.
template <typename T>
struct Synthesis {
  const T* spectrum;  // bin k of frame t at k * bin_stride + t * frame_stride, counted in T
  int64_t bin_stride, frame_stride;
  int64_t count;  // frames
  T edge;         // as above
  int64_t hop;    // samples between frames
  const T* window;
  T* work;  // synthesis_size(plan, hop) values
  int64_t rows;
  T* const* to;            // where each row goes
  const T* const* factor;  // its values' factors, which can be read up to the next multiple of `lanes`
};

template <typename T>
struct Kernels {
  int64_t lanes;  // frames of a vector
  void (*analyse)(const Plan<T>&, const Analysis<T>&);
  void (*synthesise)(const Plan<T>&, const Synthesis<T>&);
};

// Of the instruction set that cpu_isa() names.
template <typename T>
const Kernels<T>& kernels();

template <typename T>
int64_t work_size(const Plan<T>& plan) {
  return (plan.size + 1) * 2 * kernels<T>().lanes;
}

// Groups of `lanes` rows that wait for later frames.
template <typename T>
int64_t rows_waiting(const Plan<T>& plan, int64_t hop) {
  return ceil_div(ceil_div(plan.n_fft, hop), kernels<T>().lanes);
}

template <typename T>
int64_t synthesis_size(const Plan<T>& plan, int64_t hop) {
  return work_size(plan) + rows_waiting(plan, hop) * hop * kernels<T>().lanes;
}

}  // namespace blackwell_compat::fft
