// Fourier transforms on a card: a size's radices and tables (kernels/fft.cuh), and how a block is laid out for it.
#pragma once
#include <ATen/ATen.h>

#include "kernels/fft.cuh"

namespace blackwell_compat {

constexpr int64_t kMostFftPoints = int64_t{1} << 28;

// A launch of blocks that transform frames of n_fft values, real ones as pairs where that goes.
struct FftLaunch {
  FftParams fft;
  bool large;           // the blocks' memory is global
  int64_t block_bytes;  // a block's memory: the buffers, and what was asked for beside them

  // Where the blocks take turns: how many there are at once, and their memory
  int64_t resident_blocks(int64_t blocks, c10::Device device) const;
  at::Tensor workspace(int64_t blocks, c10::Device device) const;
  int shared_bytes() const { return large ? 0 : static_cast<int>(block_bytes); }
};

// `dtype` is that of the arithmetic, `frames` are as many as a block may have use for, `other_bytes` what it wants beside
// the buffers. The tables of a size are made when they are first needed, and kept.
FftLaunch fft_launch(int64_t n_fft, bool real, at::ScalarType dtype, c10::Device device, int64_t frames, int64_t other_bytes);

// How many parts make every multiprocessor busy.
int64_t parts_to_fill(c10::Device device);

}  // namespace blackwell_compat
