// rnn: cells of LSTM and GRU from their gates, their gradients, and a step of a layer. What the host and the card share.
#pragma once

namespace blackwell_compat {

// One value of each array (rows, hidden), or of (rows, gates, hidden) where it holds gates; all of them dense.
struct RnnCellParams {
  const void *input_gates, *hidden_gates, *input_bias, *hidden_bias;  // biases may be null
  const void* state;                                                  // LSTM: that of the cell, GRU: the hidden one
  void *hidden, *cell;                                                // results; `cell` is LSTM's
  void* workspace;  // LSTM: the gates; GRU: r, z, n, the state, the hidden gate of n
  long long rows, size;
};

struct RnnGradParams {
  const void *grad_hidden, *grad_cell;  // may be null; `grad_cell` is LSTM's
  const void *state, *cell;             // LSTM's before and after
  const void* workspace;
  void *grad_input, *grad_hidden_gates;  // of gates; LSTM has one for both
  void* grad_state;
  long long rows, size;
};

// A layer goes in one direction or in both. Row n takes the state before from `before`, and LSTM's from `cell`, where n is less
// than `rows_before`, else from `first` and `first_cell`.
struct RnnDirection {
  const void *gates, *weight, *bias;  // (rows, gates, size) with their bias; (gates, size, size); may be null
  const void *first, *first_cell, *before;
  void *out, *last, *cell;  // `last` and `cell` are the newest states of each row
  int rows, rows_before;
};
struct RnnStepParams {
  RnnDirection direction[2];
  long long weight_row, out_row;  // `before` has the rows of `out`; the others are dense
  int size;
  unsigned blocks_of_rows;  // row tiles of a direction
  int vectors;              // whether 16 bytes can be read at once
};

constexpr int kRnnThreads = 128, kRnnWarps = kRnnThreads / 32;
constexpr int kRnnRows = 4;  // that a warp takes at once

}  // namespace blackwell_compat
