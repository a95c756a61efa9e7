// Cells of recurrent networks, matrix products with another dtype, dropout with a mask: written in ATen's other ops.
#include "fallback/cpu_kernels.h"

#include <ATen/ATen.h>

namespace blackwell_compat::fallback {
namespace {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

bool given(const OptTensor& tensor) { return tensor && tensor->defined(); }
Tensor plus(const Tensor& sum, const OptTensor& more) { return given(more) ? sum + *more : sum; }

// Gates (N, 4 * hidden) in the order input, forget, cell, output. Returns hy, cy and the activated gates.
std::tuple<Tensor, Tensor, Tensor> lstm_cell(const Tensor& input_gates, const Tensor& hidden_gates, const Tensor& cx,
                                             const OptTensor& input_bias, const OptTensor& hidden_bias) {
  const auto gates = plus(plus(input_gates + hidden_gates, input_bias), hidden_bias).chunk(4, 1);
  const Tensor i = gates[0].sigmoid(), f = gates[1].sigmoid(), g = gates[2].tanh(), o = gates[3].sigmoid();
  const Tensor cy = f * cx + i * g;
  return {o * cy.tanh(), cy, at::cat({i, f, g, o}, 1)};
}

std::tuple<Tensor, Tensor, Tensor> lstm_cell_backward(const OptTensor& grad_hy, const OptTensor& grad_cy, const Tensor& cx,
                                                      const Tensor& cy, const Tensor& workspace, bool has_bias) {
  const auto gates = workspace.chunk(4, 1);
  const Tensor &i = gates[0], &f = gates[1], &g = gates[2], &o = gates[3];
  const Tensor squashed = cy.tanh(), dh = given(grad_hy) ? *grad_hy : at::zeros_like(cy);
  const Tensor dc = plus(dh * o * (1 - squashed * squashed), grad_cy);
  const Tensor grad_gates =
      at::cat({dc * g * i * (1 - i), dc * cx * f * (1 - f), dc * i * (1 - g * g), dh * squashed * o * (1 - o)}, 1);
  return {grad_gates, dc * f, has_bias ? grad_gates.sum(0) : Tensor()};
}

// Gates (N, 3 * hidden) in the order reset, update, new. The workspace is r, z, n, hx, and the hidden gate of n.
std::tuple<Tensor, Tensor> gru_cell(const Tensor& input_gates, const Tensor& hidden_gates, const Tensor& hx,
                                    const OptTensor& input_bias, const OptTensor& hidden_bias) {
  const auto in = plus(input_gates, input_bias).chunk(3, 1), hidden = plus(hidden_gates, hidden_bias).chunk(3, 1);
  const Tensor r = (in[0] + hidden[0]).sigmoid(), z = (in[1] + hidden[1]).sigmoid();
  const Tensor n = (in[2] + r * hidden[2]).tanh();
  return {n + z * (hx - n), at::cat({r, z, n, hx, hidden[2]}, 1)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gru_cell_backward(const Tensor& grad_hy, const Tensor& workspace,
                                                                     bool has_bias) {
  const auto saved = workspace.chunk(5, 1);
  const Tensor &r = saved[0], &z = saved[1], &n = saved[2], &hx = saved[3], &hidden_n = saved[4];
  const Tensor dn = grad_hy * (1 - z) * (1 - n * n), dz = grad_hy * (hx - n) * z * (1 - z);
  const Tensor dr = dn * hidden_n * r * (1 - r);
  const Tensor grad_input = at::cat({dr, dz, dn}, 1), grad_hidden = at::cat({dr, dz, dn * r}, 1);
  return {grad_input, grad_hidden, grad_hy * z, has_bias ? grad_input.sum(0) : Tensor(),
          has_bias ? grad_hidden.sum(0) : Tensor()};
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& grad_out, const Tensor& input, at::IntArrayRef normalized_shape,
                                             const Tensor& rstd, const OptTensor& weight, std::array<bool, 2> output_mask) {
  std::vector<int64_t> inner, outer;
  const int64_t kept = input.dim() - static_cast<int64_t>(normalized_shape.size());
  for (int64_t d = 0; d < input.dim(); ++d) (d < kept ? outer : inner).push_back(d);
  const Tensor normalized = input * rstd, scaled = given(weight) ? grad_out * *weight : grad_out;
  Tensor grad_input, grad_weight;
  if (output_mask[0]) {
    grad_input = (rstd * (scaled - normalized * (scaled * normalized).mean(inner, true))).to(input.scalar_type());
  }
  if (output_mask[1] && given(weight)) {
    const Tensor product = grad_out * normalized;
    grad_weight = (outer.empty() ? product : product.sum(outer)).to(weight->scalar_type());
  }
  return {grad_input, grad_weight};
}

Tensor mm_dtype(const Tensor& self, const Tensor& mat2, at::ScalarType out_dtype) {
  return at::mm(self.to(out_dtype), mat2.to(out_dtype));
}

Tensor bmm_dtype(const Tensor& self, const Tensor& mat2, at::ScalarType out_dtype) {
  return at::bmm(self.to(out_dtype), mat2.to(out_dtype));
}

Tensor addmm_dtype(const Tensor& self, const Tensor& mat1, const Tensor& mat2, at::ScalarType out_dtype, const at::Scalar& beta,
                   const at::Scalar& alpha) {
  return at::addmm(self.to(out_dtype), mat1.to(out_dtype), mat2.to(out_dtype), beta, alpha);
}

Tensor baddbmm_dtype(const Tensor& self, const Tensor& batch1, const Tensor& batch2, at::ScalarType out_dtype,
                     const at::Scalar& beta, const at::Scalar& alpha) {
  return at::baddbmm(self.to(out_dtype), batch1.to(out_dtype), batch2.to(out_dtype), beta, alpha);
}

Tensor& mm_dtype_out(const Tensor& self, const Tensor& mat2, at::ScalarType out_dtype, Tensor& out) {
  return at::mm_out(out, self.to(out_dtype), mat2.to(out_dtype));
}

Tensor& bmm_dtype_out(const Tensor& self, const Tensor& mat2, at::ScalarType out_dtype, Tensor& out) {
  return at::bmm_out(out, self.to(out_dtype), mat2.to(out_dtype));
}

Tensor& addmm_dtype_out(const Tensor& self, const Tensor& mat1, const Tensor& mat2, at::ScalarType out_dtype,
                        const at::Scalar& beta, const at::Scalar& alpha, Tensor& out) {
  return at::addmm_out(out, self.to(out_dtype), mat1.to(out_dtype), mat2.to(out_dtype), beta, alpha);
}

Tensor& baddbmm_dtype_out(const Tensor& self, const Tensor& batch1, const Tensor& batch2, at::ScalarType out_dtype,
                          const at::Scalar& beta, const at::Scalar& alpha, Tensor& out) {
  return at::baddbmm_out(out, self.to(out_dtype), batch1.to(out_dtype), batch2.to(out_dtype), beta, alpha);
}

// Unlike in native_dropout, p is the chance to be kept.
std::tuple<Tensor, Tensor> fused_dropout(const Tensor& self, double p, std::optional<at::Generator> generator) {
  const Tensor mask = at::empty_like(self, self.options().dtype(at::kByte)).bernoulli_(p, std::move(generator));
  return {self * mask / p, mask};
}

Tensor masked_scale(const Tensor& self, const Tensor& mask, double scale) { return self * mask.to(self.scalar_type()) * scale; }

template <typename F>
void add(torch::Library& library, const std::string& op, const std::string& overload, F function) {
  const auto found = c10::Dispatcher::singleton().findSchema({"aten::" + op, overload});
  if (!found || found->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return;
  library.impl((overload.empty() ? op : op + "." + overload).c_str(), function);
}

}  // namespace

void add_cpu_kernels(torch::Library& library) {
  add(library, "_thnn_fused_lstm_cell", "", TORCH_FN(lstm_cell));
  add(library, "_thnn_fused_lstm_cell_backward_impl", "", TORCH_FN(lstm_cell_backward));
  add(library, "_thnn_fused_gru_cell", "", TORCH_FN(gru_cell));
  add(library, "_thnn_fused_gru_cell_backward", "", TORCH_FN(gru_cell_backward));
  add(library, "_fused_rms_norm_backward", "", TORCH_FN(rms_norm_backward));
  add(library, "mm", "dtype", TORCH_FN(mm_dtype));
  add(library, "bmm", "dtype", TORCH_FN(bmm_dtype));
  add(library, "addmm", "dtype", TORCH_FN(addmm_dtype));
  add(library, "baddbmm", "dtype", TORCH_FN(baddbmm_dtype));
  add(library, "mm", "dtype_out", TORCH_FN(mm_dtype_out));
  add(library, "bmm", "dtype_out", TORCH_FN(bmm_dtype_out));
  add(library, "addmm", "dtype_out", TORCH_FN(addmm_dtype_out));
  add(library, "baddbmm", "dtype_out", TORCH_FN(baddbmm_dtype_out));
  add(library, "_fused_dropout", "", TORCH_FN(fused_dropout));
  add(library, "_masked_scale", "", TORCH_FN(masked_scale));
}

}  // namespace blackwell_compat::fallback
