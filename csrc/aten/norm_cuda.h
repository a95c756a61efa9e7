// Launches of kernels/norm.cu, for the files that normalise layers and groups, and batches.
#pragma once
#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <c10/core/DeviceGuard.h>

#include "aten/reduce_cuda.h"
#include "aten/results.h"
#include "aten/rows.h"
#include "common/kernel_dtype.h"
#include "common/pass_on.h"
#include "kernels/norm.cuh"

namespace blackwell_compat {

// Whether rows of n values are read once
inline bool fit_registers(int64_t n, const at::Tensor& input) {
  return n <= int64_t{most_team(static_cast<int>(input.element_size()))} * kRowValues;
}

inline void* written(const at::Tensor& tensor) { return tensor.defined() ? tensor.mutable_data_ptr() : nullptr; }

inline at::ScalarType arithmetic(const at::Tensor& tensor) { return at::toOpMathType(tensor.scalar_type()); }

inline bool takes(const at::Tensor& tensor) { return kernel_dtype(tensor.scalar_type()) && reduce_takes(tensor); }

// Whether a parameter or statistic may stand beside `input`: in its dtype or in that of the arithmetic
inline bool suits(const at::Tensor& parameter, const at::Tensor& input, int64_t size) {
  if (!parameter.defined()) return true;
  return parameter.is_cuda() && parameter.is_contiguous() && parameter.numel() == size &&
         (parameter.scalar_type() == input.scalar_type() || parameter.scalar_type() == arithmetic(input));
}
inline bool same_dtype(const at::Tensor& a, const at::Tensor& b) {
  return !a.defined() || !b.defined() || a.scalar_type() == b.scalar_type();
}

inline bool is_wide(const at::Tensor& parameter, const at::Tensor& input) {
  return parameter.defined() && parameter.scalar_type() != input.scalar_type();
}

// Launches over one tensor
class Norm {
 public:
  NormParams p{};

  Norm(const at::Tensor& input, int64_t samples, int64_t channels, int64_t inner, int64_t groups)
      : input_(input), guard_(input.device()) {
    p.in = input.const_data_ptr();
    p.samples = samples, p.channels = channels, p.inner = inner, p.groups = groups;
    p.centered = true;
  }

  void set_affine(const at::Tensor& weight, const at::Tensor& bias) {
    p.weight = data_of(weight), p.bias = data_of(bias);
    p.wide_weight = is_wide(weight, input_) || is_wide(bias, input_);
  }
  void set_statistics(const at::Tensor& mean, const at::Tensor& rstd) {
    p.mean = data_of(mean), p.rstd = data_of(rstd), p.wide_statistics = is_wide(rstd, input_);
  }

  // `others` are as aligned as 16 bytes want
  template <typename... Tensors>
  void over_rows(const char* what, int64_t rows, int64_t n, const Tensors&... others) {
    p.rows = rows, p.n = n;
    p.team = team_of(p.n, static_cast<int>(input_.element_size())), p.packs = rows_are_packs(p.n, input_, others...);
    launch(what, team_grid(rows, p.team, input_.device()));
  }
  void over_columns(int64_t rows, const at::Tensor& sum_grad, const at::Tensor& sum_dot) {
    p.sum_grad = written(sum_grad), p.sum_dot = written(sum_dot);
    p.rows = rows, p.n = p.channels;
    p.columns = columns_of(rows), p.part = ceil_div(rows, sum_grad.size(0));
    auto grid = column_grid(p.n, p.columns);
    grid.blocks *= sum_grad.size(0);
    launch("grad_columns", grid);
  }
  void over_elements(const char* what, const at::Tensor& grad, const at::Tensor& out) {
    p.out = written(out);
    p.packs = rows_are_packs(p.channels_last ? p.channels : p.inner, input_, grad, out);
    const int64_t threads = input_.numel() / (p.packs ? 16 / input_.element_size() : 1);
    launch(what, {ceil_div(threads, kNormThreads), kNormThreads, 0});
  }
  void over_statistics(const char* what, int64_t count) { launch(what, {ceil_div(count, kNormThreads), kNormThreads, 0}); }

  at::Tensor made(at::IntArrayRef sizes) const { return at::empty(sizes, input_.options().dtype(arithmetic(input_))); }

 private:
  void launch(const std::string& what, const runtime::Grid& grid) {
    if (grid.blocks == 0) return;
    runtime::launch("compat_norm_" + what + "_" + kernel_dtype(input_.scalar_type()), input_.device(), grid, &p);
  }

  const at::Tensor input_;
  const c10::DeviceGuard guard_;
};

// Means and reciprocal standard deviations, or variances, in the dtype of the arithmetic
inline void statistics_of(const at::Tensor& input, Dims dims, ReduceKind kind, double eps, const at::Tensor& mean,
                          const at::Tensor& rstd) {
  ReduceParams p{};
  p.kind = kind, p.correction = eps, p.wide = true;
  reduce_cuda(std::string("var_") + kernel_dtype(input.scalar_type()), p, input, dims, rstd, mean);
}

struct Sums {
  at::Tensor grad, dot;  // (parts, channels)
};

inline void parameter_grads(Norm& norm, const Sums& sums, const at::Tensor& grad_weight, const at::Tensor& grad_bias) {
  norm.p.sum_grad = written(sums.grad), norm.p.sum_dot = written(sums.dot);
  norm.p.rows = sums.grad.size(0), norm.p.channels = sums.grad.size(1);
  norm.p.grad_weight = written(grad_weight), norm.p.grad_bias = written(grad_bias);
  norm.over_statistics("grad_parameters", norm.p.channels);
}

// Of each channel of each sample
inline Sums sums_of_channels(Norm& norm, const at::Tensor& grad) {
  const int64_t samples = norm.p.samples, channels = norm.p.channels;
  Sums sums{norm.made({samples, channels}), norm.made({samples, channels})};
  norm.p.sum_grad = written(sums.grad), norm.p.sum_dot = written(sums.dot);
  norm.over_rows("grad_sums", samples * channels, norm.p.inner, grad);
  return sums;
}

// The gradient with respect to an input whose statistics were made of it, from those sums
inline void input_grad(Norm& norm, const Sums& sums, int64_t statistics, const at::Tensor& grad, const at::Tensor& out) {
  const at::Tensor mean_grad = norm.made({statistics}), mean_dot = norm.made({statistics});
  norm.p.sum_grad = written(sums.grad), norm.p.sum_dot = written(sums.dot);
  norm.p.mean_grad = written(mean_grad), norm.p.mean_dot = written(mean_dot);
  norm.over_statistics("grad_means", statistics);
  norm.over_elements("grad_apply", grad, out);
}

inline at::Tensor made_if(bool wanted, const at::Tensor& like) {
  return wanted ? at::empty(like.sizes(), like.options()) : at::Tensor();
}
inline at::Tensor parameter_grad_if(bool wanted, const at::Tensor& weight, const at::Tensor& input, at::IntArrayRef sizes) {
  return wanted ? at::empty(sizes, input.options().dtype(weight.defined() ? weight.scalar_type() : input.scalar_type()))
                : at::Tensor();
}

}  // namespace blackwell_compat
