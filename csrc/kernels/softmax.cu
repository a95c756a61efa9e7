// softmax: a row is read once where it fits into the registers of its team, else twice, its sum kept for the largest value so
// far.
#include "kernels/rows.cuh"
#include "kernels/softmax.cuh"

namespace blackwell_compat {

template <typename A>
__device__ __forceinline__ A lowest();
template <>
__device__ __forceinline__ float lowest() {
  return __uint_as_float(0xff800000u);
}
template <>
__device__ __forceinline__ double lowest() {
  return __longlong_as_double(0xfff0000000000000ll);
}

// The sum of exp(value - largest) over values so far
template <typename A>
struct OnlineSum {
  A largest = lowest<A>(), sum = 0;

  template <int count>
  __device__ __forceinline__ void add(const A (&values)[count]) {
    A now = largest;
#pragma unroll
    for (int i = 0; i < count; ++i) now = Greater()(values[i], now);
    if (now > largest) sum *= exp(largest - now);
    largest = now;
#pragma unroll
    for (int i = 0; i < count; ++i) sum += values[i] == lowest<A>() ? A(0) : exp(values[i] - now);
  }

  template <typename Threads>
  __device__ __forceinline__ void finish(const Threads& threads) {
    const A all = threads.reduce(largest, Greater());
    sum = threads.reduce(sum * exp(largest - all), Add());
    largest = all;
  }
};

// One value of the result from one of the input and what is known of its row
template <typename A>
struct Softmax {
  A largest, of_sum;  // log(sum), or 1 / sum
  bool log;

  __device__ __forceinline__ Softmax(A largest, A sum, bool log_)
      : largest(largest), of_sum(log_ ? ::log(sum) : A(1) / sum), log(log_) {}
  __device__ __forceinline__ A operator()(A value) const {
    return log ? value - largest - of_sum : exp(value - largest) * of_sum;
  }
};

template <typename A>
__device__ __forceinline__ A grad_term(A grad, A output, bool log) {
  return log ? grad : grad * output;
}
template <typename A>
__device__ __forceinline__ A grad_of(A grad, A output, A sum, bool log) {
  return log ? grad - exp(output) * sum : (grad - sum) * output;
}

template <typename T, typename A>
__device__ __forceinline__ void store_one(const SoftmaxParams& p, int64_t at, A value) {
  if (p.out_kind == SoftmaxOut::kSame) {
    static_cast<T*>(p.out)[at] = Convert<T>::from(value);
  } else if (p.out_kind == SoftmaxOut::kFloat) {
    static_cast<float*>(p.out)[at] = static_cast<float>(value);
  } else if (p.out_kind == SoftmaxOut::kHalf) {
    static_cast<f16*>(p.out)[at] = Convert<f16>::from(static_cast<float>(value));
  } else {
    static_cast<bf16*>(p.out)[at] = Convert<bf16>::from(static_cast<float>(value));
  }
}

template <typename T, typename A>
__device__ __forceinline__ void store_row(const SoftmaxParams& p, const Team& team, int64_t row, int first,
                                          const A (&values)[kRowValues]) {
  if (p.out_kind == SoftmaxOut::kSame) {
    team.store<T>(static_cast<T*>(p.out) + row * p.n, first, p.n, values);
    return;
  }
#pragma unroll
  for (int i = 0; i < kRowValues; ++i) {
    const int at = first + team.place<T>(i);
    if (at < p.n) store_one<T>(p, row * p.n + at, values[i]);
  }
}

// Of a row that the team's threads have
template <typename A>
__device__ __forceinline__ void softmax_of(const Team& team, bool log, A (&values)[kRowValues]) {
  A largest = values[0], sum = 0;
#pragma unroll
  for (int i = 1; i < kRowValues; ++i) largest = Greater()(values[i], largest);
  largest = team.reduce(largest, Greater());
#pragma unroll
  for (int i = 0; i < kRowValues; ++i) {
    values[i] -= largest;
    const A power = exp(values[i]);
    sum += power;
    if (!log) values[i] = power;
  }
  sum = team.reduce(sum, Add());
  const A of_sum = log ? ::log(sum) : 1 / sum;
#pragma unroll
  for (int i = 0; i < kRowValues; ++i) values[i] = log ? values[i] - of_sum : values[i] * of_sum;
}

template <typename T>
__device__ __forceinline__ void softmax_rows(const SoftmaxParams& p) {
  using A = Value<T>;
  const Team team(p.team, p.packs);
  const int64_t row = team.row();
  const int length = static_cast<int>(p.n), n = row < p.outer ? length : 0;
  const T* const in = static_cast<const T*>(p.in) + row * p.n;
  A values[kRowValues];
  if (length <= team.values()) {
    team.load(in, 0, n, lowest<A>(), values);
    softmax_of(team, p.log, values);
    if (n) store_row<T>(p, team, row, 0, values);
    return;
  }
  OnlineSum<A> sum;
  for (int first = 0; first < length; first += team.values()) {
    team.load(in, first, n, lowest<A>(), values);
    sum.add(values);
  }
  sum.finish(team);
  const Softmax<A> result(sum.largest, sum.sum, p.log);
  for (int first = 0; first < n; first += team.values()) {
    team.load(in, first, n, lowest<A>(), values);
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) values[i] = result(values[i]);
    store_row<T>(p, team, row, first, values);
  }
}

template <typename T>
__device__ __forceinline__ void softmax_grad_rows(const SoftmaxParams& p) {
  using A = Value<T>;
  const Team team(p.team, p.packs);
  const int64_t row = team.row();
  const int length = static_cast<int>(p.n), n = row < p.outer ? length : 0;
  const T *const output = static_cast<const T*>(p.in) + row * p.n, *const grad = static_cast<const T*>(p.grad) + row * p.n;
  A outputs[kRowValues], grads[kRowValues], sum = 0;
  for (int first = 0; first < length; first += team.values()) {
    team.load(output, first, n, A(0), outputs);
    team.load(grad, first, n, A(0), grads);
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) sum += grad_term(grads[i], outputs[i], p.log);
  }
  sum = team.reduce(sum, Add());
  for (int first = 0; first < n; first += team.values()) {
    if (length > team.values()) {
      team.load(output, first, n, A(0), outputs);
      team.load(grad, first, n, A(0), grads);
    }
#pragma unroll
    for (int i = 0; i < kRowValues; ++i) grads[i] = grad_of(grads[i], outputs[i], sum, p.log);
    store_row<T>(p, team, row, first, grads);
  }
}

// Where a column's first value is, and how many it has
struct Column {
  int64_t at, n;

  __device__ __forceinline__ Column(const SoftmaxParams& p, const ColumnTeam& team) {
    const int64_t column = team.first_column();
    at = column / p.inner * p.inner * p.n + column % p.inner;
    n = column < p.outer * p.inner ? p.n : 0;
  }
};

template <typename T>
__device__ __forceinline__ void softmax_columns(const SoftmaxParams& p) {
  using A = Value<T>;
  const ColumnTeam team(p.columns);
  const Column column(p, team);
  const T* const in = static_cast<const T*>(p.in) + column.at;
  OnlineSum<A> sum;
  for (int64_t i = team.lane; i < column.n; i += team.lanes) {
    const A value[1] = {to_float(in[i * p.inner])};
    sum.add(value);
  }
  sum.finish(team);
  const Softmax<A> result(sum.largest, sum.sum, p.log);
  for (int64_t i = team.lane; i < column.n; i += team.lanes) {
    store_one<T>(p, column.at + i * p.inner, result(to_float(in[i * p.inner])));
  }
}

template <typename T>
__device__ __forceinline__ void softmax_grad_columns(const SoftmaxParams& p) {
  using A = Value<T>;
  const ColumnTeam team(p.columns);
  const Column column(p, team);
  const T *const output = static_cast<const T*>(p.in) + column.at, *const grad = static_cast<const T*>(p.grad) + column.at;
  A sum = 0;
  for (int64_t i = team.lane; i < column.n; i += team.lanes) {
    sum += grad_term(to_float(grad[i * p.inner]), to_float(output[i * p.inner]), p.log);
  }
  sum = team.reduce(sum, Add());
  for (int64_t i = team.lane; i < column.n; i += team.lanes) {
    const int64_t at = i * p.inner;
    store_one<T>(p, column.at + at, grad_of(to_float(grad[at]), to_float(output[at]), sum, p.log));
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_softmax_rows_f32, row_bounds(768, kArchitecture), SoftmaxParams, softmax_rows<float>)
BC_ENTRY(compat_softmax_rows_f16, row_bounds(1024, kArchitecture), SoftmaxParams, softmax_rows<f16>)
BC_ENTRY(compat_softmax_rows_bf16, row_bounds(1024, kArchitecture), SoftmaxParams, softmax_rows<bf16>)
BC_ENTRY(compat_softmax_rows_f64, 256, SoftmaxParams, softmax_rows<double>)
BC_ENTRY(compat_softmax_columns_f32, 256, SoftmaxParams, softmax_columns<float>)
BC_ENTRY(compat_softmax_columns_f16, 256, SoftmaxParams, softmax_columns<f16>)
BC_ENTRY(compat_softmax_columns_bf16, 256, SoftmaxParams, softmax_columns<bf16>)
BC_ENTRY(compat_softmax_columns_f64, 256, SoftmaxParams, softmax_columns<double>)
BC_ENTRY(compat_softmax_grad_rows_f32, 512, SoftmaxParams, softmax_grad_rows<float>)
BC_ENTRY(compat_softmax_grad_rows_f16, row_bounds(768, kArchitecture), SoftmaxParams, softmax_grad_rows<f16>)
BC_ENTRY(compat_softmax_grad_rows_bf16, row_bounds(768, kArchitecture), SoftmaxParams, softmax_grad_rows<bf16>)
BC_ENTRY(compat_softmax_grad_rows_f64, 256, SoftmaxParams, softmax_grad_rows<double>)
BC_ENTRY(compat_softmax_grad_columns_f32, 256, SoftmaxParams, softmax_grad_columns<float>)
BC_ENTRY(compat_softmax_grad_columns_f16, 256, SoftmaxParams, softmax_grad_columns<f16>)
BC_ENTRY(compat_softmax_grad_columns_bf16, 256, SoftmaxParams, softmax_grad_columns<bf16>)
BC_ENTRY(compat_softmax_grad_columns_f64, 256, SoftmaxParams, softmax_grad_columns<double>)
