// grid_sample: values of an image at the positions of a grid. What the host and the card share.
#pragma once

namespace blackwell_compat {

// What stands outside of an image, as PyTorch numbers it
enum class Outside : int { kZeros, kBorder, kReflection };

// Strides count elements; `out` is dense. A position is (column, row), each from -1 to 1 within the image.
struct GridSampleParams {
  const void *in, *grid;
  void* out;
  long long in_batch, in_channel, in_axis[2];
  long long grid_batch, grid_axis[2], grid_part;
  long long results;
  int channels, in_size[2], out_size[2];
  int nearest;  // else bilinear
  int corners;  // -1 and 1 are the middles of the outermost values, else their outer edges
  Outside outside;
};

constexpr int kGridSampleThreads = 256;

}  // namespace blackwell_compat
