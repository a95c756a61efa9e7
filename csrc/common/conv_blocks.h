// Convolution in one dimension as blocks of positions, each small enough for the second-level cache.
//
// A block gathers its input as rows (position by position) where it is not rows already, lets oneDNN convolve it in one
// thread, and scatters the result. Gathering pads, converts, transposes and applies an activation on the way, so input
// and output may be planes (contiguous "NCL") or rows ("channels last") at nearly the same speed, and oneDNN sees only a
// few block lengths, whatever lengths the signals have: a new length costs no new primitive.
#pragma once
#include "common/onednn.h"
#include "common/pack_cache.h"

namespace blackwell_compat {

// The layer. A transposed convolution is one whose every position holds `rows_per_position` output rows, its phases.
struct ConvLayer {
  int64_t c_in, c_out;  // of the convolution that oneDNN sees; c_out counts all the phases
  int64_t kernel, stride, dilation, groups;
  int64_t rows_per_position;
  bool bias;
  Activation pre, act;
};

// The signals. Strides in elements; a signal is planes where its position stride is 1, else rows.
struct ConvSignals {
  at::Tensor input;     // (N, C_in, L_in), planes or rows
  at::Tensor output;    // (N, C_out / rows_per_position, L_out), planes or rows, not initialised
  at::Tensor residual;  // as output, any strides, or undefined: added after the activation
  int64_t positions;    // of the convolution
  int64_t pad_left;     // input samples of zeros before the first
  int64_t skip_rows;    // output rows before the first one that is kept
};

// Rows are (C * L, 1, C): the layout that nn.Conv1d lacks a memory format for.
bool is_rows(const at::Tensor& signal);

// `weight` (C_out, C_in / groups, K), plain, in the layout for `layer`; a null desc where oneDNN has only its reference
// implementation for this layer.
Packed pack_conv(const at::Tensor& weight, const ConvLayer& layer, at::ScalarType dtype);

// bias: (C_out) of `layer`, in `dtype`, or undefined.
void conv_blocks(const ConvLayer& layer, at::ScalarType dtype, const Packed& weight, const at::Tensor& bias,
                 const ConvSignals& signals);

}  // namespace blackwell_compat
