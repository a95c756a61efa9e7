// Fourier transforms of frames, several side by side in the memory of a block. What the host and the card share.
#pragma once
#include "kernels/quotient.cuh"

namespace blackwell_compat {

constexpr int kFftThreads = 256, kMostFftPasses = 20;

// A frame of n_fft real values is one complex transform of n_fft / 2 points where n_fft is even: pairs of neighbours are the real
// and imaginary parts, `turn` takes the spectra of both apart. Any other frame is one of n_fft points.
struct FftParams {
  const void* twiddles;  // complex: one table after the other, as fft_table_size says
  const void* turn;      // complex e^(-2 pi i k / n_fft) for k <= points; null: a frame is n_fft complex values
  const void* chirp;     // complex e^(-pi i k^2 / points) for k < points; null: no large prime divides the size
  const void* filter;    // with it: the transform of the conjugate chirp, divided by length
  int points;            // values of a frame
  int length;            // of the passes: `points`, or with a chirp a power of two from 2 * points - 1 on
  int passes, lanes;     // a frame has this many threads
  int frames;            // that a block transforms at once; frames * lanes <= kFftThreads
  unsigned char radix[kMostFftPasses];
  unsigned by_size[kMostFftPasses];  // divisor_of the size of the transforms that a pass begins with
};

// Radices whose butterflies stay in registers; others sum what they need for each value.
constexpr bool is_register_radix(int radix) { return radix <= 5 || radix == 7 || radix == 8; }

// A pass makes transforms of radix * size points from those of `size` points. Its table: e^(-2 pi i q k / (radix * size)) at
// (q - 1) * size + k for 0 < q < radix, k < size; of other radices e^(-2 pi i k / (radix * size)) at k.
constexpr int fft_table_size(int radix, int size) { return (is_register_radix(radix) ? radix - 1 : radix) * size; }

// Value i of a buffer in shared memory stands at i + (i >> shift): neither neighbours nor values a power of two apart meet one
// bank twice.
constexpr int fft_pad_shift(int real_bytes) { return real_bytes == 4 ? 4 : 3; }
constexpr long long fft_buffer_size(long long values, int real_bytes) { return values + (values >> fft_pad_shift(real_bytes)); }

}  // namespace blackwell_compat
