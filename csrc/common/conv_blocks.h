// Convolution in one dimension as blocks of positions, each small enough for the second-level cache.
//
// A block gathers its input as rows (position by position) where it is not rows already, is computed in one thread
// (conv_step.h), and scattered. Gathering pads, converts, transposes and applies an activation on the way, so input and
// output may be planes (contiguous "NCL") or rows ("channels last") at nearly the same speed.
#pragma once
#include "common/conv_step.h"

namespace blackwell_compat {

// The signals. Strides in elements; a signal is planes where its position stride is 1, else rows.
struct ConvSignals {
  at::Tensor input;     // (N, C_in, L_in), planes or rows
  at::Tensor output;    // (N, C_out / rows_per_position, L_out), planes or rows, not initialised
  at::Tensor residual;  // laid out as output, or undefined: added after the activation
  int64_t positions;    // of the convolution
  int64_t pad_left;     // input samples of zeros before the first
  int64_t skip_rows;    // output rows before the first one that is kept
};

// Rows are (C * L, 1, C): the layout that nn.Conv1d lacks a memory format for.
bool is_rows(const at::Tensor& signal);

void conv_blocks(const ConvLayer& layer, at::ScalarType dtype, const ConvStep& step, const ConvSignals& signals);

}  // namespace blackwell_compat
