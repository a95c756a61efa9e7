// pool: means and maxima over windows of a volume, and their gradients. What the host and the card share.
#pragma once

namespace blackwell_compat {

// The axes are depth, height and width; an image has a depth of 1. Strides count elements: of `in`, which is the volume, for
// gradients the one of the result; `out` is dense in either layout. `places` are positions within a channel's volume, laid out as
// the result's values are.
struct PoolParams {
  const void* in;
  void* out;
  long long* places;
  long long in_batch, in_channel, in_axis[3];
  long long results;
  int channels, in_size[3], out_size[3];
  int volume[3];  // its size
  int kernel[3], stride[3], padding[3], dilation[3];
  int adaptive;        // windows that share the volume among the results; then the line above says nothing
  int channels_last;   // of `out`
  int counts_padding;  // whether a window's size is taken with its padding
  double divisor;      // else, where it is not 0
};

constexpr int kPoolThreads = 256;

}  // namespace blackwell_compat
