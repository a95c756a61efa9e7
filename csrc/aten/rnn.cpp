// PyTorch's LSTM and GRU: their cells, which its composite makes sequences of where a gradient is wanted; else whole layers, one
// product for the inputs of all steps and a kernel for each step.
#include "kernels/rnn.cuh"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>

#include "aten/results.h"
#include "common/ceil_div.h"
#include "common/gemm_cuda.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "common/pass_on.h"
#include "fallback/values.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

constexpr int64_t kAlignment = 16;  // bytes that a step reads at a time

Tensor dense(const Tensor& t) { return t.defined() ? t.contiguous() : t; }

// Whether it is (rows, columns), or not there at all
bool has_size(const Tensor& t, const Tensor& like, int64_t rows, int64_t columns) {
  return t.defined() && t.dim() == 2 && t.size(0) == rows && t.size(1) == columns && t.scalar_type() == like.scalar_type() &&
         t.device() == like.device();
}
bool is_bias(const Tensor& t, const Tensor& like, int64_t size) {
  return !t.defined() ||
         (t.dim() == 1 && t.size(0) == size && t.scalar_type() == like.scalar_type() && t.device() == like.device());
}

template <class Params>
void launch(const std::string& kernel, const Tensor& like, const Params& p) {
  runtime::launch("compat_rnn_" + kernel + "_" + kernel_dtype(like.scalar_type()), like.device(),
                  {ceil_div(p.rows * p.size, kRnnThreads), kRnnThreads, 0}, &p);
}

// (input_gates, hidden_gates, cx or hx, input_bias, hidden_bias)
template <int64_t gates>
bool cell(Stack* stack) {
  constexpr bool is_lstm = gates == 4;
  const auto given = torch::jit::last(*stack, 5);
  const Tensor state = given[2].toTensor();
  if (state.dim() != 2 || !gemm_takes(state.scalar_type()) || state.numel() == 0) return false;
  const int64_t rows = state.size(0), size = state.size(1);
  const Tensor input_bias = optional_tensor(given[3]), hidden_bias = optional_tensor(given[4]);
  for (int i = 0; i < 2; ++i) {
    if (!has_size(given[i].toTensor(), state, rows, gates * size)) return false;
  }
  if (!is_bias(input_bias, state, gates * size) || !is_bias(hidden_bias, state, gates * size)) return false;
  const c10::DeviceGuard guard(state.device());
  const Tensor in = given[0].toTensor().contiguous(), hidden = given[1].toTensor().contiguous(), before = state.contiguous();
  const Tensor of_input = dense(input_bias), of_hidden = dense(hidden_bias);
  const Tensor hy = at::empty({rows, size}, state.options()), cy = is_lstm ? at::empty({rows, size}, state.options()) : Tensor();
  const Tensor workspace = at::empty({rows, (is_lstm ? 4 : 5) * size}, state.options());
  RnnCellParams p{};
  p.input_gates = in.const_data_ptr(), p.hidden_gates = hidden.const_data_ptr(), p.state = before.const_data_ptr();
  p.input_bias = data_of(of_input), p.hidden_bias = data_of(of_hidden);
  p.hidden = hy.mutable_data_ptr(), p.workspace = workspace.mutable_data_ptr();
  if (is_lstm) p.cell = cy.mutable_data_ptr();
  p.rows = rows, p.size = size;
  launch(is_lstm ? "lstm_cell" : "gru_cell", state, p);
  give(stack, 5, is_lstm ? std::vector{hy, cy, workspace} : std::vector{hy, workspace});
  return true;
}

// (grad_hy, grad_cy, cx, cy, workspace, has_bias)
bool lstm_cell_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 6);
  const Tensor grad_hy = optional_tensor(given[0]), grad_cy = optional_tensor(given[1]);
  const Tensor cx = given[2].toTensor(), cy = given[3].toTensor(), workspace = given[4].toTensor();
  if (cx.dim() != 2 || !gemm_takes(cx.scalar_type()) || cx.numel() == 0) return false;
  const int64_t rows = cx.size(0), size = cx.size(1);
  if (!has_size(cy, cx, rows, size) || !has_size(workspace, cx, rows, 4 * size)) return false;
  for (const Tensor& grad : {grad_hy, grad_cy}) {
    if (grad.defined() && !has_size(grad, cx, rows, size)) return false;
  }
  const c10::DeviceGuard guard(cx.device());
  const Tensor dh = dense(grad_hy), dc = dense(grad_cy), before = cx.contiguous(), after = cy.contiguous();
  const Tensor saved = workspace.contiguous();
  const Tensor gates = at::empty_like(saved), grad_cx = at::empty({rows, size}, cx.options());
  RnnGradParams p{};
  p.grad_hidden = data_of(dh), p.grad_cell = data_of(dc), p.workspace = saved.const_data_ptr();
  p.state = before.const_data_ptr(), p.cell = after.const_data_ptr();
  p.grad_input = gates.mutable_data_ptr(), p.grad_state = grad_cx.mutable_data_ptr();
  p.rows = rows, p.size = size;
  launch("lstm_grad", cx, p);
  const Tensor bias = given[5].toBool() ? gates.sum(0) : Tensor();
  give(stack, 6, {gates, grad_cx, bias});
  return true;
}

// (grad_hy, workspace, has_bias)
bool gru_cell_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 3);
  const Tensor grad_hy = given[0].toTensor(), workspace = given[1].toTensor();
  if (grad_hy.dim() != 2 || !gemm_takes(grad_hy.scalar_type()) || grad_hy.numel() == 0) return false;
  const int64_t rows = grad_hy.size(0), size = grad_hy.size(1);
  if (!has_size(workspace, grad_hy, rows, 5 * size)) return false;
  const c10::DeviceGuard guard(grad_hy.device());
  const Tensor dh = grad_hy.contiguous(), saved = workspace.contiguous();
  const Tensor input = at::empty({rows, 3 * size}, dh.options()), hidden = at::empty_like(input), state = at::empty_like(dh);
  RnnGradParams p{};
  p.grad_hidden = dh.const_data_ptr(), p.workspace = saved.const_data_ptr();
  p.grad_input = input.mutable_data_ptr(), p.grad_hidden_gates = hidden.mutable_data_ptr();
  p.grad_state = state.mutable_data_ptr();
  p.rows = rows, p.size = size;
  launch("gru_grad", dh, p);
  const bool has_bias = given[2].toBool();
  const Tensor input_bias = has_bias ? input.sum(0) : Tensor(), hidden_bias = has_bias ? hidden.sum(0) : Tensor();
  give(stack, 3, {input, hidden, state, input_bias, hidden_bias});
  return true;
}

bool is_plain(const Tensor& t, const Tensor& like) {
  return t.is_cuda() && t.device() == like.device() && t.scalar_type() == like.scalar_type() && t.layout() == c10::kStrided &&
         !t.is_nested();
}

// Sequences (steps, rows, inputs), all of the same length, or packed: (values, inputs), `rows` of each step after those before.
struct Sequences {
  Tensor values;  // (all rows, inputs)
  std::vector<int64_t> rows, begin;

  int64_t steps() const { return static_cast<int64_t>(rows.size()); }
};

struct Network {
  std::vector<Tensor> states;   // (layers * directions, rows, size): hidden, and LSTM's cell
  std::vector<Tensor> weights;  // of each layer and direction: of the input, of the state, and their biases where it has them
  bool has_biases, bidirectional;
  int64_t layers;
  double dropout;
  bool train;

  int64_t gates() const { return states.size() == 2 ? 4 : 3; }
  int64_t size() const { return states[0].size(2); }
  int64_t directions() const { return bidirectional ? 2 : 1; }
  const Tensor& weight(int64_t place, int which) const { return weights[place * (has_biases ? 4 : 2) + which]; }
};

bool fits(const Network& net, const Tensor& input, int64_t inputs, int64_t rows) {
  if (!gemm_takes(input.scalar_type()) || !is_plain(input, input) || input.numel() == 0) return false;
  if (net.layers < 1 || (net.dropout != 0 && net.train && net.layers > 1)) return false;
  const int64_t places = net.layers * net.directions(), each = net.has_biases ? 4 : 2;
  if (static_cast<int64_t>(net.weights.size()) != places * each) return false;
  for (const auto* tensors : {&net.states, &net.weights}) {
    for (const Tensor& t : *tensors) {
      if (!is_plain(t, input)) return false;
    }
  }
  for (const Tensor& state : net.states) {
    if (state.dim() != 3 || state.size(0) != places || state.size(1) != rows || state.size(2) != net.size()) return false;
  }
  const int64_t size = net.size(), gates = net.gates() * size;
  for (int64_t place = 0; place < places; ++place) {
    const int64_t from = place < net.directions() ? inputs : size * net.directions();
    if (!has_size(net.weight(place, 0), input, gates, from) || !has_size(net.weight(place, 1), input, gates, size)) return false;
    if (net.has_biases && (!is_bias(net.weight(place, 2), input, gates) || !is_bias(net.weight(place, 3), input, gates)))
      return false;
  }
  return size > 0;
}

// One layer. States are dense, hidden ones and LSTM's: those before its first steps and those behind its last.
Tensor layer(const Network& net, int64_t index, const Sequences& in, const std::vector<Tensor>& first,
             const std::vector<Tensor>& last) {
  const int64_t size = net.size(), directions = net.directions(), all = in.values.size(0), rows = first[0].size(1);
  const Tensor out = at::empty({all, directions * size}, in.values.options());
  const int64_t element = out.element_size();
  RnnStepParams p{};
  std::vector<Tensor> kept;
  p.out_row = directions * size, p.weight_row = size, p.size = static_cast<int>(size);
  p.vectors = size * element % kAlignment == 0;
  for (int64_t d = 0; d < directions; ++d) {
    const int64_t place = index * directions + d;
    const Tensor gates = gemm_cuda(in.values, net.weight(place, 0), net.has_biases ? net.weight(place, 2) : Tensor());
    const Tensor weight = net.weight(place, 1).contiguous(), bias = net.has_biases ? dense(net.weight(place, 3)) : Tensor();
    RnnDirection& to = p.direction[d];
    to.gates = gates.const_data_ptr(), to.weight = weight.const_data_ptr(), to.bias = data_of(bias);
    to.first = first[0][place].const_data_ptr(), to.last = last[0][place].mutable_data_ptr();
    if (first.size() == 2) to.first_cell = first[1][place].const_data_ptr(), to.cell = last[1][place].mutable_data_ptr();
    p.vectors = p.vectors && reinterpret_cast<uintptr_t>(to.weight) % kAlignment == 0 &&
                reinterpret_cast<uintptr_t>(to.first) % kAlignment == 0;
    kept.insert(kept.end(), {gates, weight, bias});
  }
  const std::string kernel =
      std::string("compat_rnn_") + (net.gates() == 4 ? "lstm" : "gru") + "_step_" + kernel_dtype(out.scalar_type());
  const int64_t blocks_of_rows = ceil_div(rows, kRnnRows);
  p.blocks_of_rows = static_cast<unsigned>(blocks_of_rows);
  const auto address = [&](const Tensor& t, int64_t row, int64_t column) {
    return static_cast<char*>(const_cast<void*>(t.const_data_ptr())) + (row * t.size(1) + column) * element;
  };
  for (int64_t i = 0; i < in.steps(); ++i) {
    for (int64_t d = 0; d < directions; ++d) {
      const int64_t step = d == 0 ? i : in.steps() - 1 - i, before = d == 0 ? step - 1 : step + 1;
      RnnDirection& to = p.direction[d];
      to.rows = static_cast<int>(in.rows[step]);
      to.rows_before = i == 0 ? 0 : static_cast<int>(std::min(in.rows[step], in.rows[before]));
      to.gates = address(kept[3 * d], in.begin[step], 0);
      to.out = address(out, in.begin[step], d * size);
      to.before = i == 0 ? nullptr : address(out, in.begin[before], d * size);
    }
    runtime::launch(kernel, out.device(), {ceil_div(size, kRnnWarps) * blocks_of_rows * directions, kRnnThreads, 0}, &p);
  }
  return out;
}

// The newest layer's results, and the states behind the last steps.
std::pair<Tensor, std::vector<Tensor>> run(const Network& net, Sequences in) {
  std::vector<Tensor> first, last;
  for (const Tensor& state : net.states) {
    first.push_back(state.contiguous());
    last.push_back(at::empty(state.sizes(), state.options()));
  }
  for (int64_t index = 0; index < net.layers; ++index) in.values = layer(net, index, in, first, last);
  return {in.values, last};
}

// From params, has_biases, num_layers, dropout, train, bidirectional on; hx is a tensor for a GRU
Network network_of(const IValue& hx, c10::ArrayRef<IValue> given) {
  Network net{};
  net.states = hx.isTensor() ? std::vector<Tensor>{hx.toTensor()} : hx.toTensorVector();
  net.weights = given[0].toTensorVector();
  net.has_biases = given[1].toBool(), net.layers = given[2].toInt(), net.dropout = given[3].toDouble();
  net.train = given[4].toBool(), net.bidirectional = given[5].toBool();
  return net;
}

void give_states(Stack* stack, size_t count, const Tensor& out, std::vector<Tensor> states) {
  states.insert(states.begin(), out);
  give(stack, count, std::move(states));
}

// As autocast would cast them for cuDNN or for each step: PyTorch's op itself, which ours stands in for, is not on its list.
std::vector<IValue> casted_arguments(const Stack& stack, size_t count) {
  std::vector<IValue> given = torch::jit::last(stack, count).vec();
  if (!at::autocast::is_autocast_enabled(c10::kCUDA)) return given;
  const auto dtype = at::autocast::get_autocast_dtype(c10::kCUDA);
  for (IValue& value : given) {
    fallback::replace_tensors(value, [&](const Tensor& t) { return at::autocast::cached_cast(dtype, t, c10::kCUDA); });
  }
  return given;
}

// (input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
bool sequences(Stack* stack) {
  const auto given = casted_arguments(*stack, 9);
  const Tensor input = given[0].toTensor();
  const Network net = network_of(given[1], c10::ArrayRef<IValue>(given).slice(2));
  const bool batch_first = given[8].toBool();
  if (input.dim() != 3 || net.states.empty() || net.states[0].dim() != 3) return false;
  const int64_t rows = input.size(batch_first ? 0 : 1), steps = input.size(batch_first ? 1 : 0);
  if (!fits(net, input, input.size(2), rows)) return false;
  const at::AutoDispatchBelowADInplaceOrView below;
  const c10::DeviceGuard guard(input.device());
  Sequences in{(batch_first ? input.transpose(0, 1) : input).reshape({steps * rows, input.size(2)}), {}, {}};
  for (int64_t step = 0; step < steps; ++step) in.rows.push_back(rows), in.begin.push_back(step * rows);
  const auto [out, states] = run(net, in);
  const Tensor shaped = out.view({steps, rows, out.size(1)});
  give_states(stack, 9, batch_first ? shaped.transpose(0, 1) : shaped, states);
  return true;
}

// (data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional); batch_sizes is on the CPU
bool packed(Stack* stack) {
  const auto given = casted_arguments(*stack, 9);
  const Tensor data = given[0].toTensor(), batch_sizes = given[1].toTensor();
  const Network net = network_of(given[2], c10::ArrayRef<IValue>(given).slice(3));
  if (data.dim() != 2 || net.states.empty() || net.states[0].dim() != 3) return false;
  if (!batch_sizes.is_cpu() || batch_sizes.scalar_type() != at::kLong || batch_sizes.dim() != 1 || batch_sizes.numel() == 0)
    return false;
  const Tensor sizes = batch_sizes.contiguous();
  const int64_t* const rows = sizes.const_data_ptr<int64_t>();
  Sequences in{{}, {rows, rows + sizes.numel()}, {}};
  int64_t all = 0;
  for (const int64_t rows_of_step : in.rows) {
    if (rows_of_step < 1 || rows_of_step > in.rows[0]) return false;
    in.begin.push_back(all);
    all += rows_of_step;
  }
  if (all != data.size(0) || !std::is_sorted(in.rows.rbegin(), in.rows.rend())) return false;
  if (!fits(net, data, data.size(1), in.rows[0])) return false;
  const at::AutoDispatchBelowADInplaceOrView below;
  const c10::DeviceGuard guard(data.device());
  in.values = data.contiguous();
  const auto [out, states] = run(net, std::move(in));
  give_states(stack, 9, out, states);
  return true;
}

const OwnKernel lstm_cell{"aten::_thnn_fused_lstm_cell", cell<4>}, gru_cell{"aten::_thnn_fused_gru_cell", cell<3>},
    lstm_grad{"aten::_thnn_fused_lstm_cell_backward_impl", lstm_cell_backward},
    gru_grad{"aten::_thnn_fused_gru_cell_backward", gru_cell_backward}, lstm{"aten::lstm.input", sequences},
    gru{"aten::gru.input", sequences}, packed_lstm{"aten::lstm.data", packed}, packed_gru{"aten::gru.data", packed};

}  // namespace
}  // namespace blackwell_compat
