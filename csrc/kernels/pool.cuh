// pool: means over windows of an image, and their gradients. What the host and the card share.
#pragma once

namespace blackwell_compat {

// Strides count elements: of `in`, which is the image, for gradients the one of the result; `out` is dense in either layout.
struct PoolParams {
  const void* in;
  void* out;
  long long in_batch, in_channel, in_axis[2];
  long long results;
  int channels, in_size[2], out_size[2];
  int image[2];  // its size
  int kernel[2], stride[2], padding[2];
  int channels_last;   // of `out`
  int counts_padding;  // whether a window's size is taken with its padding
  double divisor;      // else, where it is not 0
};

constexpr int kPoolThreads = 256;

}  // namespace blackwell_compat
