// rnn: a thread for each value of a cell; and a warp for each hidden unit of a step, which multiplies the state by the unit's
// weights and computes the cell at once.
#include "kernels/activation.cuh"
#include "kernels/gemm_store.cuh"
#include "kernels/platform.cuh"
#include "kernels/rnn.cuh"

namespace blackwell_compat {

template <typename A>
__device__ __forceinline__ A sigmoid(A x) {
  return A(1) / (A(1) + exp_of(-x));
}

// Values of a cell's gates, by the products of the input and of the state
template <typename A>
struct LstmCell {
  A i, f, g, o, cell, hidden;

  __device__ LstmCell(const A (&gates)[4], A before)
      : i(sigmoid(gates[0])),
        f(sigmoid(gates[1])),
        g(tanh_of(gates[2])),
        o(sigmoid(gates[3])),
        cell(f * before + i * g),
        hidden(o * tanh_of(cell)) {}
};

template <typename A>
struct GruCell {
  A r, z, n, hidden;

  __device__ GruCell(const A (&in)[3], const A (&of_state)[3], A before)
      : r(sigmoid(in[0] + of_state[0])),
        z(sigmoid(in[1] + of_state[1])),
        n(tanh_of(in[2] + r * of_state[2])),
        hidden(n + z * (before - n)) {}
};

// Element i of an array that may be null
template <typename T>
__device__ __forceinline__ typename Accumulator<T>::type value_of(const void* from, int64_t i) {
  using A = typename Accumulator<T>::type;
  return from ? A(to_float(static_cast<const T*>(from)[i])) : A(0);
}

template <typename T, typename A>
__device__ __forceinline__ void set_value(void* to, int64_t i, A value) {
  static_cast<T*>(to)[i] = Convert<T>::from(value);
}

template <typename T>
__device__ __forceinline__ void lstm_cell(const RnnCellParams& p) {
  using A = typename Accumulator<T>::type;
  const int64_t i = int64_t(blockIdx.x) * kRnnThreads + threadIdx.x;
  if (i >= p.rows * p.size) return;
  const int64_t row = i / p.size, unit = i % p.size;
  A gates[4];
#pragma unroll
  for (int g = 0; g < 4; ++g) {
    const int64_t of_bias = g * p.size + unit, at = row * 4 * p.size + of_bias;
    gates[g] = value_of<T>(p.input_gates, at) + value_of<T>(p.hidden_gates, at) + value_of<T>(p.input_bias, of_bias) +
               value_of<T>(p.hidden_bias, of_bias);
  }
  const LstmCell<A> cell(gates, value_of<T>(p.state, i));
  set_value<T>(p.hidden, i, cell.hidden);
  set_value<T>(p.cell, i, cell.cell);
  const A saved[4] = {cell.i, cell.f, cell.g, cell.o};
#pragma unroll
  for (int g = 0; g < 4; ++g) set_value<T>(p.workspace, (row * 4 + g) * p.size + unit, saved[g]);
}

template <typename T>
__device__ __forceinline__ void gru_cell(const RnnCellParams& p) {
  using A = typename Accumulator<T>::type;
  const int64_t i = int64_t(blockIdx.x) * kRnnThreads + threadIdx.x;
  if (i >= p.rows * p.size) return;
  const int64_t row = i / p.size, unit = i % p.size;
  A in[3], of_state[3];
#pragma unroll
  for (int g = 0; g < 3; ++g) {
    const int64_t of_bias = g * p.size + unit, at = row * 3 * p.size + of_bias;
    in[g] = value_of<T>(p.input_gates, at) + value_of<T>(p.input_bias, of_bias);
    of_state[g] = value_of<T>(p.hidden_gates, at) + value_of<T>(p.hidden_bias, of_bias);
  }
  const A before = value_of<T>(p.state, i);
  const GruCell<A> cell(in, of_state, before);
  set_value<T>(p.hidden, i, cell.hidden);
  const A saved[5] = {cell.r, cell.z, cell.n, before, of_state[2]};
#pragma unroll
  for (int g = 0; g < 5; ++g) set_value<T>(p.workspace, (row * 5 + g) * p.size + unit, saved[g]);
}

template <typename T>
__device__ __forceinline__ void lstm_grad(const RnnGradParams& p) {
  using A = typename Accumulator<T>::type;
  const int64_t at = int64_t(blockIdx.x) * kRnnThreads + threadIdx.x;
  if (at >= p.rows * p.size) return;
  const int64_t row = at / p.size, unit = at % p.size, first = row * 4 * p.size + unit;
  const A i = value_of<T>(p.workspace, first), f = value_of<T>(p.workspace, first + p.size);
  const A g = value_of<T>(p.workspace, first + 2 * p.size), o = value_of<T>(p.workspace, first + 3 * p.size);
  const A squashed = tanh_of(value_of<T>(p.cell, at)), dh = value_of<T>(p.grad_hidden, at);
  const A dc = dh * o * (1 - squashed * squashed) + value_of<T>(p.grad_cell, at);
  const A grads[4] = {dc * g * i * (1 - i), dc * value_of<T>(p.state, at) * f * (1 - f), dc * i * (1 - g * g),
                      dh * squashed * o * (1 - o)};
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) set_value<T>(p.grad_input, first + gate * p.size, grads[gate]);
  set_value<T>(p.grad_state, at, dc * f);
}

template <typename T>
__device__ __forceinline__ void gru_grad(const RnnGradParams& p) {
  using A = typename Accumulator<T>::type;
  const int64_t at = int64_t(blockIdx.x) * kRnnThreads + threadIdx.x;
  if (at >= p.rows * p.size) return;
  const int64_t row = at / p.size, unit = at % p.size, saved = row * 5 * p.size + unit, first = row * 3 * p.size + unit;
  const A r = value_of<T>(p.workspace, saved), z = value_of<T>(p.workspace, saved + p.size);
  const A n = value_of<T>(p.workspace, saved + 2 * p.size), state = value_of<T>(p.workspace, saved + 3 * p.size);
  const A dh = value_of<T>(p.grad_hidden, at), dn = dh * (1 - z) * (1 - n * n);
  const A dz = dh * (state - n) * z * (1 - z), dr = dn * value_of<T>(p.workspace, saved + 4 * p.size) * r * (1 - r);
  set_value<T>(p.grad_input, first, dr), set_value<T>(p.grad_hidden_gates, first, dr);
  set_value<T>(p.grad_input, first + p.size, dz), set_value<T>(p.grad_hidden_gates, first + p.size, dz);
  set_value<T>(p.grad_input, first + 2 * p.size, dn), set_value<T>(p.grad_hidden_gates, first + 2 * p.size, dn * r);
  set_value<T>(p.grad_state, at, dh * z);
}

template <typename T, typename A>
__device__ __forceinline__ void load_piece(A (&to)[16 / sizeof(T)], const T* from, int left, bool vectors) {
  constexpr int kPiece = 16 / sizeof(T);
  if (vectors) {
    union {
      uint4 whole;
      T element[kPiece];
    } piece;
    piece.whole = *reinterpret_cast<const uint4*>(from);
#pragma unroll
    for (int e = 0; e < kPiece; ++e) to[e] = to_float(piece.element[e]);
  } else {
#pragma unroll
    for (int e = 0; e < kPiece; ++e) to[e] = e < left ? A(to_float(from[e])) : A(0);
  }
}

template <typename T, int kGates>
__device__ __forceinline__ void rnn_step(const RnnStepParams& p) {
  using A = typename Accumulator<T>::type;
  constexpr int kPiece = 16 / sizeof(T);
  const unsigned units = (p.size + kRnnWarps - 1) / kRnnWarps;
  const int unit = blockIdx.x % units * kRnnWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first_row = blockIdx.x / units % p.blocks_of_rows * kRnnRows;
  const RnnDirection& d = blockIdx.x / units / p.blocks_of_rows == 0 ? p.direction[0] : p.direction[1];
  if (unit >= p.size || first_row >= d.rows) return;

  const T* rows[kRnnRows];
#pragma unroll
  for (int i = 0; i < kRnnRows; ++i) {
    const int row = min(first_row + i, d.rows - 1);
    rows[i] = row < d.rows_before ? static_cast<const T*>(d.before) + row * p.out_row
                                  : static_cast<const T*>(d.first) + int64_t(row) * p.size;
  }
  const T* const weight = static_cast<const T*>(d.weight) + unit * p.weight_row;
  A sums[kRnnRows][kGates] = {};
  for (int k = lane * kPiece; k < p.size; k += 32 * kPiece) {
    A w[kGates][kPiece];
#pragma unroll
    for (int g = 0; g < kGates; ++g) load_piece(w[g], weight + g * p.size * p.weight_row + k, p.size - k, p.vectors);
#pragma unroll
    for (int i = 0; i < kRnnRows; ++i) {
      A h[kPiece];
      load_piece(h, rows[i] + k, p.size - k, p.vectors);
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
#pragma unroll
        for (int e = 0; e < kPiece; ++e) sums[i][g] += h[e] * w[g][e];
      }
    }
  }

  A of_state[kGates];  // lane i ends row i
#pragma unroll
  for (int i = 0; i < kRnnRows; ++i) {
#pragma unroll
    for (int g = 0; g < kGates; ++g) {
#pragma unroll
      for (int lanes = 16; lanes > 0; lanes /= 2) sums[i][g] += __shfl_xor_sync(0xffffffffu, sums[i][g], lanes);
      if (i == 0 || lane == i) of_state[g] = sums[i][g];
    }
  }
  const int row = first_row + lane;
  if (lane >= kRnnRows || row >= d.rows) return;
  const int64_t at = int64_t(row) * p.size + unit;
  A in[kGates];
#pragma unroll
  for (int g = 0; g < kGates; ++g) {
    in[g] = value_of<T>(d.gates, (int64_t(row) * kGates + g) * p.size + unit);
    of_state[g] += value_of<T>(d.bias, g * p.size + unit);
  }
  A hidden;
  if constexpr (kGates == 4) {
#pragma unroll
    for (int g = 0; g < kGates; ++g) in[g] += of_state[g];
    const LstmCell<A> cell(in, value_of<T>(row < d.rows_before ? d.cell : d.first_cell, at));
    set_value<T>(d.cell, at, cell.cell);
    hidden = cell.hidden;
  } else {
    const void* const before = row < d.rows_before ? d.before : d.first;
    const int64_t row_before = row < d.rows_before ? row * p.out_row : int64_t(row) * p.size;
    hidden = GruCell<A>(in, of_state, value_of<T>(before, row_before + unit)).hidden;
  }
  set_value<T>(d.out, row * p.out_row + unit, hidden);
  set_value<T>(d.last, at, hidden);
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_rnn_lstm_cell_f32, 128, RnnCellParams, lstm_cell<float>)
BC_ENTRY(compat_rnn_lstm_cell_f16, 128, RnnCellParams, lstm_cell<f16>)
BC_ENTRY(compat_rnn_lstm_cell_bf16, 128, RnnCellParams, lstm_cell<bf16>)
BC_ENTRY(compat_rnn_lstm_cell_f64, 128, RnnCellParams, lstm_cell<double>)
BC_ENTRY(compat_rnn_gru_cell_f32, 128, RnnCellParams, gru_cell<float>)
BC_ENTRY(compat_rnn_gru_cell_f16, 128, RnnCellParams, gru_cell<f16>)
BC_ENTRY(compat_rnn_gru_cell_bf16, 128, RnnCellParams, gru_cell<bf16>)
BC_ENTRY(compat_rnn_gru_cell_f64, 128, RnnCellParams, gru_cell<double>)
BC_ENTRY(compat_rnn_lstm_grad_f32, 128, RnnGradParams, lstm_grad<float>)
BC_ENTRY(compat_rnn_lstm_grad_f16, 128, RnnGradParams, lstm_grad<f16>)
BC_ENTRY(compat_rnn_lstm_grad_bf16, 128, RnnGradParams, lstm_grad<bf16>)
BC_ENTRY(compat_rnn_lstm_grad_f64, 128, RnnGradParams, lstm_grad<double>)
BC_ENTRY(compat_rnn_gru_grad_f32, 128, RnnGradParams, gru_grad<float>)
BC_ENTRY(compat_rnn_gru_grad_f16, 128, RnnGradParams, gru_grad<f16>)
BC_ENTRY(compat_rnn_gru_grad_bf16, 128, RnnGradParams, gru_grad<bf16>)
BC_ENTRY(compat_rnn_gru_grad_f64, 128, RnnGradParams, gru_grad<double>)
BC_ENTRY(compat_rnn_lstm_step_f32, 128, RnnStepParams, rnn_step<float, 4>)
BC_ENTRY(compat_rnn_lstm_step_f16, 128, RnnStepParams, rnn_step<f16, 4>)
BC_ENTRY(compat_rnn_lstm_step_bf16, 128, RnnStepParams, rnn_step<bf16, 4>)
BC_ENTRY(compat_rnn_lstm_step_f64, 128, RnnStepParams, rnn_step<double, 4>)
BC_ENTRY(compat_rnn_gru_step_f32, 128, RnnStepParams, rnn_step<float, 3>)
BC_ENTRY(compat_rnn_gru_step_f16, 128, RnnStepParams, rnn_step<f16, 3>)
BC_ENTRY(compat_rnn_gru_step_bf16, 128, RnnStepParams, rnn_step<bf16, 3>)
BC_ENTRY(compat_rnn_gru_step_f64, 128, RnnStepParams, rnn_step<double, 3>)
