// What stands around the short-time transforms. What the host and the card share.
#pragma once
#include "kernels/scalar.cuh"
#include "kernels/stft.cuh"

namespace blackwell_compat {

constexpr int kSpectralThreads = 256;

// to (size) = scale * from (width), which begins at `left`; zeros around.
struct FillParams {
  const void* from;  // null: all ones
  void* to;
  long long stride, size, width, left;
  double scale;
  ScalarKind kind;  // of `from`
};

// to (rows, length) = what padding to from (rows, length + 2 * pad) copied from each sample, added. `parts` is 2 for complex.
struct UnpadParams {
  const void* from;
  void* to;
  long long rows, length, pad;
  int parts;
  Pad mode;
};

// to (rows, length) = from divided by the sum of the squared window over the frames that reach a sample, which is sample `start`
// and on of the frames.
struct DivideParams {
  const void *from, *window;
  void* to;
  long long row_stride, stride, rows, length, start, hop, n_frames, n_fft;
  int parts;
};

}  // namespace blackwell_compat
