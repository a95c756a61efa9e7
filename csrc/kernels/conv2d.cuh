// conv2d: out = conv(input, weight) + bias, plain or transposed. What the host and the card share.
#pragma once
#include "kernels/gemm.cuh"

namespace blackwell_compat {

// Strides count elements. `out` is dense. In the kernel of tiles the channels of a group lie next to each other, in the input and
// in the weight, and 16 bytes of them can be read at once; `input_channel` is the way from one group to the next there.
struct Conv2dParams {
  const void *input, *weight, *bias;  // bias may be null
  void* out;
  void* partial;  // where splits > 1: as often as that the sums over a part of taps and channels, which lie as `out` does
  long long input_batch, input_channel, input_row, input_column;
  long long out_batch, out_channel, out_position;
  long long weight_group, weight_out, weight_tap, weight_channel;
  long long bias_stride;
  int batch, groups, in_channels, out_channels;  // channels of a group
  int height, width, out_height, out_width;
  int kernel[2], stride[2], padding[2], dilation[2];
  int transposed;
  unsigned row_tiles, column_tiles, splits;
};

constexpr int kConv2dThreads = 256;
constexpr int conv2d_shared_bytes(int tile, int architecture) {
  return gemm_stages(architecture) * 2 * tile * (kGemmDepthBytes + kGemmPadBytes);
}

// out (batch, positions, padded), dense, = in (batch, channels, positions) by its strides; zero from `channels` on.
struct Conv2dPackParams {
  const void* in;
  void* out;
  long long in_batch, in_channel, in_position;  // of one `width` of positions: the next row lies in_row apart
  long long in_row;
  long long positions;
  int batch, width, groups, channels, padded;  // channels of a group
};

constexpr int kConv2dPackTile = 32, kConv2dPackRows = 8;
constexpr int conv2d_pack_shared_bytes(int element) { return kConv2dPackTile * (kConv2dPackTile + 1) * element; }

}  // namespace blackwell_compat
