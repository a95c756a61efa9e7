// conv1d: out = activation(conv(pre_activation(input), weight) + bias) + residual, plain or transposed. What the host and the
// card share.
#pragma once
#include "kernels/gemm.cuh"

namespace blackwell_compat {

// Strides count elements. `out` is dense. Its position q * phases + phase takes, of the phase's i-th tap, the input's position
// q * stride + base + i * tap_step, where base belongs to the phase. A plain convolution has one phase, a transposed one as many
// as its stride.
struct Conv1dParams {
  const void *input, *weight, *bias, *residual;  // bias and residual may be null
  void* out;
  void* partial;  // where splits > 1: as often as that the sums over a part of taps and channels, which lie as `out` does
  long long in_length, out_length;
  long long input_batch, input_channel, input_position;
  long long out_batch, out_channel, out_position;
  long long residual_batch, residual_channel, residual_position;
  long long bias_stride;
  long long weight_group, weight_out, weight_tap, weight_channel;  // as packed
  long long padding;
  int batch, groups, in_channels, out_channels;  // channels of a group
  int kernel, phases, stride, tap_step;
  // Transposed: a phase has every `cycle`-th tap, from (phase + padding) / common * inverse % cycle on, where `common`, the
  // greatest common divisor of stride and dilation, divides that; else it has none
  int transposed, dilation, cycle, common, inverse;
  // Lines of a window lie `stride` positions apart. Its `window_taps` taps are every `share`-th of the phase, which lie whole
  // lines apart: `tap_lines`
  int window_rows, window_taps, share, tap_lines;
  int vectors;  // whether 16 bytes of channels can be read at once
  unsigned row_tiles, column_tiles, splits;
  int pre_activation, activation;  // Act of common/activation.h
  double pre_slope, slope;
};

// Windows of two units, weights of some steps, and how much of shared memory they may take: so that two blocks fit on a
// multiprocessor, of which sm_80, sm_90 and sm_100 have more than the others.
constexpr bool conv1d_has_room(int architecture) {
  return architecture == 800 || architecture == 900 || architecture == 1000 || architecture == 1030;
}
constexpr int kConv1dStages = 2;
constexpr int conv1d_weight_stages(int architecture) { return conv1d_has_room(architecture) ? 3 : 2; }
constexpr int conv1d_most_shared_bytes(int architecture) { return (conv1d_has_room(architecture) ? 80 : 48) << 10; }
constexpr int conv1d_shared_bytes(int columns, int window_rows, int architecture) {
  return (kConv1dStages * window_rows + conv1d_weight_stages(architecture) * columns) * (kGemmDepthBytes + kGemmPadBytes);
}

// The direct kernel: a thread has that many positions, of 1 or kConv1dOuts outputs each
constexpr int kConv1dThreads = 128, kConv1dPositions = 4, kConv1dOuts = 8;
constexpr int conv1d_direct_shared_bytes(int outs, int accumulator) {
  return kConv1dThreads * kConv1dPositions * outs * accumulator;
}

// out[i0, i1, i2, i3], dense, = in[i0, i1, i2, i3] by its strides; zero from i3 = valid on.
struct Conv1dPackParams {
  const void* in;
  void* out;
  long long size[4], stride[4], valid;
};

// out[a, b, t] = the sum over samples and positions l of shorter[., a, l] * longer[., b, l * stride - padding + t * dilation], b
// within a's group. Without a `longer` all its values are 1.
struct Conv1dGradParams {
  const void *shorter, *longer;
  void* out;
  void* partial;  // as in Conv1dParams
  long long shorter_length, longer_length;
  long long shorter_batch, shorter_channel, shorter_position;
  long long longer_batch, longer_channel, longer_position;
  long long padding;
  int batch, groups, shorter_channels, longer_channels;  // channels of a group
  int kernel, stride, dilation;
  unsigned row_tiles, column_tiles, splits;
};

constexpr int kConv1dGradTile = 64, kConv1dGradThreads = 256;
constexpr int conv1d_grad_shared_bytes() { return kConv1dStages * 2 * kConv1dGradTile * (kGemmDepthBytes + kGemmPadBytes); }

}  // namespace blackwell_compat
