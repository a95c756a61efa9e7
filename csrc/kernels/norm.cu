// Normalisation: rows that fit into the registers of a team are read once. Larger statistics are made by reduce.cu, then applied.
#include "kernels/moments.cuh"
#include "kernels/norm.cuh"
#include "kernels/rows.cuh"

namespace blackwell_compat {

template <typename T>
__device__ __forceinline__ Value<T> read_at(const void* from, int64_t i, bool wide) {
  return wide ? static_cast<const Value<T>*>(from)[i] : to_float(static_cast<const T*>(from)[i]);
}
template <typename T>
__device__ __forceinline__ void write_at(void* to, int64_t i, Value<T> value, bool wide) {
  if (wide) {
    static_cast<Value<T>*>(to)[i] = value;
  } else {
    static_cast<T*>(to)[i] = Convert<T>::from(value);
  }
}

template <typename T>
__device__ __forceinline__ Value<T> weight_of(const NormParams& p, int64_t channel) {
  return p.weight ? read_at<T>(p.weight, channel, p.wide_weight) : 1;
}
template <typename T>
__device__ __forceinline__ Value<T> bias_of(const NormParams& p, int64_t channel) {
  return p.bias ? read_at<T>(p.bias, channel, p.wide_weight) : 0;
}
template <typename T>
__device__ __forceinline__ Value<T> mean_of(const NormParams& p, int64_t statistic) {
  return p.mean ? read_at<T>(p.mean, statistic, p.wide_statistics) : 0;
}
template <typename T>
__device__ __forceinline__ Value<T> rstd_of(const NormParams& p, int64_t statistic) {
  using A = Value<T>;
  const A read = read_at<T>(p.rstd, statistic, p.wide_statistics);
  return p.of_variance ? inverse_root(read + A(p.eps)) : read;
}

// A row's channels and, for a thread, those of its values
template <typename T>
struct RowChannels {
  using A = Value<T>;
  const NormParams& p;
  const Team& team;
  int64_t first_channel;

  __device__ __forceinline__ RowChannels(const NormParams& p, const Team& team, int64_t row)
      : p(p), team(team), first_channel(row % p.groups * (p.channels / p.groups)) {}

  // value = combine(value, its channel's parameter), unless that is null
  template <typename F>
  __device__ __forceinline__ void apply(const void* parameter, int first, A (&values)[kRowValues], F combine) const {
    if (!parameter) return;
    const int n = static_cast<int>(p.n);
    if (team.packs && p.inner == 1 && !p.wide_weight) {
      constexpr int kSize = Pack<T>::kSize;
#pragma unroll
      for (int i = 0; i < kRowValues; i += kSize) {
        const int at = first + team.place<T>(i);
        if (at >= n) continue;
        const Pack<T> read = *reinterpret_cast<const Pack<T>*>(static_cast<const T*>(parameter) + first_channel + at);
#pragma unroll
        for (int j = 0; j < kSize; ++j) values[i + j] = combine(values[i + j], to_float(read.value[j]));
      }
      return;
    }
    const unsigned inner = static_cast<unsigned>(p.inner);
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) {
      const int at = first + team.place<T>(i);
      if (at >= n) continue;
      values[i] = combine(values[i], read_at<T>(parameter, first_channel + static_cast<unsigned>(at) / inner, p.wide_weight));
    }
  }
};

template <typename T>
__device__ __forceinline__ void norm_rows(const NormParams& p) {
  using A = Value<T>;
  const Team team(p.team, p.packs);
  const int64_t row = team.row();
  const int length = static_cast<int>(p.n), n = row < p.rows ? length : 0;
  const T* const in = static_cast<const T*>(p.in) + row * p.n;
  const bool again = length > team.values();
  A values[kRowValues], mean = 0, squares = 0;
#pragma unroll 1
  for (int first = 0; first < length; first += team.values()) {
    team.load(in, first, n, A(0), values);
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) mean += values[i];
  }
  mean = p.centered ? team.reduce(mean, Add()) / A(p.n) : A(0);
#pragma unroll 1
  for (int first = 0; first < length; first += team.values()) {
    if (again) team.load(in, first, n, A(0), values);
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) {
      if (first + team.place<T>(i) < length) squares += (values[i] - mean) * (values[i] - mean);
    }
  }
  const A rstd = inverse_root(team.reduce(squares, Add()) / A(p.n) + A(p.eps));
  if (team.lane == 0 && row < p.rows) {
    if (p.out_mean) write_at<T>(p.out_mean, row, mean, p.wide_statistics);
    write_at<T>(p.out_rstd, row, rstd, p.wide_statistics);
  }
  const RowChannels<T> channels(p, team, row);
#pragma unroll 1
  for (int first = 0; first < n; first += team.values()) {
    if (again) team.load(in, first, n, A(0), values);
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) values[i] = (values[i] - mean) * rstd;
    channels.apply(p.weight, first, values, Multiply());
    channels.apply(p.bias, first, values, Add());
    team.store<T>(static_cast<T*>(p.out) + row * p.n, first, n, values);
  }
}

template <typename T>
__device__ __forceinline__ void norm_grad_rows(const NormParams& p) {
  using A = Value<T>;
  const Team team(p.team, p.packs);
  const int64_t row = team.row();
  const int length = static_cast<int>(p.n), n = row < p.rows ? length : 0;
  const T *const in = static_cast<const T*>(p.in) + row * p.n, *const grad = static_cast<const T*>(p.grad) + row * p.n;
  const A mean = n ? mean_of<T>(p, row) : A(0), rstd = n ? rstd_of<T>(p, row) : A(0);
  const RowChannels<T> channels(p, team, row);
  A normal[kRowValues], grads[kRowValues], sum = 0, dot = 0;
  const auto load = [&](int first) {
    team.load(in, first, n, mean, normal);
    team.load(grad, first, n, A(0), grads);
    channels.apply(p.weight, first, grads, Multiply());
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) normal[i] = (normal[i] - mean) * rstd;
  };
  for (int first = 0; first < length; first += team.values()) {
    load(first);
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) {
      sum += grads[i];
      dot += grads[i] * normal[i];
    }
  }
  sum = p.centered ? team.reduce(sum, Add()) / A(p.n) : A(0);
  dot = team.reduce(dot, Add()) / A(p.n);
  for (int first = 0; first < n; first += team.values()) {
    if (length > team.values()) load(first);
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) grads[i] = rstd * (grads[i] - sum - normal[i] * dot);
    team.store<T>(static_cast<T*>(p.out) + row * p.n, first, n, grads);
  }
}

// Rows are columns' parts here: each has `part` of them
template <typename T>
__device__ __forceinline__ void norm_grad_columns(const NormParams& p) {
  using A = Value<T>;
  const ColumnTeam team(p.columns);
  const int64_t blocks = (p.n + p.columns - 1) / p.columns, split = blockIdx.x / blocks;
  const int64_t column = blockIdx.x % blocks * p.columns + team.column, end = min(p.rows, (split + 1) * p.part);
  A sum = 0, dot = 0;
  if (column < p.n) {
    for (int64_t row = split * p.part + team.lane; row < end; row += team.lanes) {
      const A grad = to_float(static_cast<const T*>(p.grad)[row * p.n + column]);
      const A value = to_float(static_cast<const T*>(p.in)[row * p.n + column]);
      sum += grad;
      dot += grad * (value - mean_of<T>(p, row)) * rstd_of<T>(p, row);
    }
  }
  sum = team.reduce(sum, Add());
  dot = team.reduce(dot, Add());
  if (team.lane || column >= p.n) return;
  static_cast<A*>(p.sum_grad)[split * p.n + column] = sum;
  static_cast<A*>(p.sum_dot)[split * p.n + column] = dot;
}

__device__ __forceinline__ int64_t statistic_of(const NormParams& p, unsigned sample, unsigned channel) {
  if (!p.per_sample) return channel;
  return int64_t(sample) * p.groups + channel / static_cast<unsigned>(p.channels / p.groups);
}

// Of each channel of each sample
template <typename T>
__device__ __forceinline__ void norm_grad_sums(const NormParams& p) {
  using A = Value<T>;
  const Team team(p.team, p.packs);
  const int64_t row = team.row();
  const int length = static_cast<int>(p.n), n = row < p.rows ? length : 0;
  const T *const in = static_cast<const T*>(p.in) + row * p.n, *const grad = static_cast<const T*>(p.grad) + row * p.n;
  const unsigned channels = static_cast<unsigned>(p.channels);
  const int64_t statistic = statistic_of(p, static_cast<unsigned>(row) / channels, static_cast<unsigned>(row) % channels);
  const A mean = n ? mean_of<T>(p, statistic) : A(0), rstd = n ? rstd_of<T>(p, statistic) : A(0);
  A values[kRowValues], grads[kRowValues], sum = 0, dot = 0;
  for (int first = 0; first < length; first += team.values()) {
    team.load(in, first, n, mean, values);
    team.load(grad, first, n, A(0), grads);
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) {
      sum += grads[i];
      dot += grads[i] * (values[i] - mean);
    }
  }
  sum = team.reduce(sum, Add());
  dot = team.reduce(dot, Add()) * rstd;
  if (team.lane || row >= p.rows) return;
  static_cast<A*>(p.sum_grad)[row] = sum;
  static_cast<A*>(p.sum_dot)[row] = dot;
}

__device__ __forceinline__ int64_t element_of_grid() { return int64_t(blockIdx.x) * kNormThreads + threadIdx.x; }

// From sums of `rows` parts
template <typename T>
__device__ __forceinline__ void norm_grad_parameters(const NormParams& p) {
  using A = Value<T>;
  const int64_t channel = element_of_grid();
  if (channel >= p.channels) return;
  A sum = 0, dot = 0;
  for (int64_t row = 0; row < p.rows; ++row) {
    sum += static_cast<const A*>(p.sum_grad)[row * p.channels + channel];
    dot += static_cast<const A*>(p.sum_dot)[row * p.channels + channel];
  }
  if (p.grad_weight) write_at<T>(p.grad_weight, channel, dot, p.wide_weight);
  if (p.grad_bias) write_at<T>(p.grad_bias, channel, sum, p.wide_weight);
}

// A statistic's, from the sums of each channel of each sample
template <typename T>
__device__ __forceinline__ void norm_grad_means(const NormParams& p) {
  using A = Value<T>;
  const int64_t statistic = element_of_grid(), of_group = p.channels / p.groups;
  if (statistic >= (p.per_sample ? p.samples * p.groups : p.channels)) return;
  const int64_t first = p.per_sample ? statistic * of_group : statistic, step = p.per_sample ? 1 : p.channels;
  const int64_t count = p.per_sample ? of_group : p.samples;
  A sum = 0, dot = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = first + i * step;
    const A weight = weight_of<T>(p, at % p.channels);
    sum += weight * static_cast<const A*>(p.sum_grad)[at];
    dot += weight * static_cast<const A*>(p.sum_dot)[at];
  }
  static_cast<A*>(p.mean_grad)[statistic] = sum / A(count * p.inner);
  static_cast<A*>(p.mean_dot)[statistic] = dot / A(count * p.inner);
}

// One value of the result, or of the gradient with respect to the input
template <typename T, bool is_grad>
struct Applied {
  using A = Value<T>;
  A mean, rstd, weight, bias, mean_grad, mean_dot;

  __device__ __forceinline__ Applied(const NormParams& p, int64_t at) {
    const unsigned i = static_cast<unsigned>(at), channels = static_cast<unsigned>(p.channels);
    const unsigned inner = static_cast<unsigned>(p.inner);
    const unsigned channel = p.channels_last ? i % channels : i / inner % channels;
    const int64_t statistic = statistic_of(p, i / (inner * channels), channel);
    mean = mean_of<T>(p, statistic), rstd = rstd_of<T>(p, statistic), weight = weight_of<T>(p, channel);
    if (!is_grad) {
      bias = bias_of<T>(p, channel);
    } else {
      mean_grad = p.mean_grad ? static_cast<const A*>(p.mean_grad)[statistic] : A(0);
      mean_dot = p.mean_dot ? static_cast<const A*>(p.mean_dot)[statistic] : A(0);
    }
  }
  __device__ __forceinline__ A operator()(A value, A grad) const {
    const A normal = (value - mean) * rstd;
    return is_grad ? rstd * (grad * weight - mean_grad - normal * mean_dot) : normal * weight + bias;
  }
};

template <typename T, bool is_grad>
__device__ __forceinline__ void norm_apply(const NormParams& p) {
  constexpr int kSize = Pack<T>::kSize;
  const int64_t size = p.samples * p.channels * p.inner, at = element_of_grid() * (p.packs ? kSize : 1);
  if (at >= size) return;
  const T *const in = static_cast<const T*>(p.in) + at, *const grads = static_cast<const T*>(is_grad ? p.grad : p.in) + at;
  T* const out = static_cast<T*>(p.out) + at;
  if (!p.packs) {
    *out = Convert<T>::from(Applied<T, is_grad>(p, at)(to_float(*in), to_float(*grads)));
    return;
  }
  const Pack<T> values = *reinterpret_cast<const Pack<T>*>(in), of_grad = *reinterpret_cast<const Pack<T>*>(grads);
  Pack<T> made;
  if (p.channels_last) {
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      made.value[i] = Convert<T>::from(Applied<T, is_grad>(p, at + i)(to_float(values.value[i]), to_float(of_grad.value[i])));
    }
  } else {
    const Applied<T, is_grad> applied(p, at);
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      made.value[i] = Convert<T>::from(applied(to_float(values.value[i]), to_float(of_grad.value[i])));
    }
  }
  *reinterpret_cast<Pack<T>*>(out) = made;
}

// A batch's means and, in `out_rstd`, variances, become part of the running ones, the variances then what divides
template <typename T>
__device__ __forceinline__ void norm_running(const NormParams& p) {
  using A = Value<T>;
  const int64_t channel = element_of_grid();
  if (channel >= p.channels) return;
  const A mean = static_cast<const A*>(p.out_mean)[channel], variance = static_cast<const A*>(p.out_rstd)[channel];
  const A momentum = A(p.momentum), n = A(p.n);
  if (p.running_mean) {
    const A old = read_at<T>(p.running_mean, channel, p.wide_weight);
    write_at<T>(p.running_mean, channel, momentum * mean + (1 - momentum) * old, p.wide_weight);
  }
  if (p.running_var) {
    const A old = read_at<T>(p.running_var, channel, p.wide_weight);
    write_at<T>(p.running_var, channel, momentum * variance * (n / (n - 1)) + (1 - momentum) * old, p.wide_weight);
  }
  static_cast<A*>(p.out_rstd)[channel] = inverse_root(variance + A(p.eps));
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_norm_rows_f32, row_bounds(768, kArchitecture), NormParams, norm_rows<float>)
BC_ENTRY(compat_norm_rows_f16, row_bounds(1024, kArchitecture), NormParams, norm_rows<f16>)
BC_ENTRY(compat_norm_rows_bf16, row_bounds(1024, kArchitecture), NormParams, norm_rows<bf16>)
BC_ENTRY(compat_norm_rows_f64, 256, NormParams, norm_rows<double>)
BC_ENTRY(compat_norm_apply_f32, 256, NormParams, norm_apply<float, false>)
BC_ENTRY(compat_norm_apply_f16, 256, NormParams, norm_apply<f16, false>)
BC_ENTRY(compat_norm_apply_bf16, 256, NormParams, norm_apply<bf16, false>)
BC_ENTRY(compat_norm_apply_f64, 256, NormParams, norm_apply<double, false>)
BC_ENTRY(compat_norm_running_f32, 256, NormParams, norm_running<float>)
BC_ENTRY(compat_norm_running_f16, 256, NormParams, norm_running<f16>)
BC_ENTRY(compat_norm_running_bf16, 256, NormParams, norm_running<bf16>)
BC_ENTRY(compat_norm_running_f64, 256, NormParams, norm_running<double>)
BC_ENTRY(compat_norm_grad_rows_f32, 512, NormParams, norm_grad_rows<float>)
BC_ENTRY(compat_norm_grad_rows_f16, row_bounds(768, kArchitecture), NormParams, norm_grad_rows<f16>)
BC_ENTRY(compat_norm_grad_rows_bf16, row_bounds(768, kArchitecture), NormParams, norm_grad_rows<bf16>)
BC_ENTRY(compat_norm_grad_rows_f64, 256, NormParams, norm_grad_rows<double>)
BC_ENTRY(compat_norm_grad_columns_f32, 256, NormParams, norm_grad_columns<float>)
BC_ENTRY(compat_norm_grad_columns_f16, 256, NormParams, norm_grad_columns<f16>)
BC_ENTRY(compat_norm_grad_columns_bf16, 256, NormParams, norm_grad_columns<bf16>)
BC_ENTRY(compat_norm_grad_columns_f64, 256, NormParams, norm_grad_columns<double>)
BC_ENTRY(compat_norm_grad_sums_f32, 512, NormParams, norm_grad_sums<float>)
BC_ENTRY(compat_norm_grad_sums_f16, row_bounds(768, kArchitecture), NormParams, norm_grad_sums<f16>)
BC_ENTRY(compat_norm_grad_sums_bf16, row_bounds(768, kArchitecture), NormParams, norm_grad_sums<bf16>)
BC_ENTRY(compat_norm_grad_sums_f64, 256, NormParams, norm_grad_sums<double>)
BC_ENTRY(compat_norm_grad_parameters_f32, 256, NormParams, norm_grad_parameters<float>)
BC_ENTRY(compat_norm_grad_parameters_f16, 256, NormParams, norm_grad_parameters<f16>)
BC_ENTRY(compat_norm_grad_parameters_bf16, 256, NormParams, norm_grad_parameters<bf16>)
BC_ENTRY(compat_norm_grad_parameters_f64, 256, NormParams, norm_grad_parameters<double>)
BC_ENTRY(compat_norm_grad_means_f32, 256, NormParams, norm_grad_means<float>)
BC_ENTRY(compat_norm_grad_means_f16, 256, NormParams, norm_grad_means<f16>)
BC_ENTRY(compat_norm_grad_means_bf16, 256, NormParams, norm_grad_means<bf16>)
BC_ENTRY(compat_norm_grad_means_f64, 256, NormParams, norm_grad_means<double>)
BC_ENTRY(compat_norm_grad_apply_f32, 256, NormParams, norm_apply<float, true>)
BC_ENTRY(compat_norm_grad_apply_f16, 256, NormParams, norm_apply<f16, true>)
BC_ENTRY(compat_norm_grad_apply_bf16, 256, NormParams, norm_apply<bf16, true>)
BC_ENTRY(compat_norm_grad_apply_f64, 256, NormParams, norm_apply<double, true>)
