// Scans: a team goes over its row in pieces, each thread over neighbours of a piece, and hands on what came before.
#include "kernels/rows.cuh"
#include "kernels/scan.cuh"

namespace blackwell_compat {

// Each scan: a State, that of one value, how what comes later joins what came before, what is stored of it

template <typename T>
struct Plain {
  using State = Value<T>;
  static __device__ __forceinline__ State of(State value, int64_t) { return value; }
  static __device__ __forceinline__ void store(const ScanParams& p, int64_t at, const State& state) {
    static_cast<T*>(p.out)[at] = Convert<T>::from(state);
  }
};

template <typename T>
struct Sums : Plain<T> {
  using State = typename Plain<T>::State;
  static __device__ __forceinline__ State joined(const ScanParams&, State before, State later) { return before + later; }
};

template <typename T>
struct Products : Plain<T> {
  using State = typename Plain<T>::State;
  static __device__ __forceinline__ State joined(const ScanParams&, State before, State later) { return before * later; }
};

template <typename T>
struct LogSums : Plain<T> {
  using State = typename Plain<T>::State;
  static __device__ __forceinline__ State joined(const ScanParams&, State before, State later) {
    if (before != before || later != later) return before + later;
    const State most = before > later ? before : later, least = before > later ? later : before;
    return most == least && most - least != 0 ? most : most + log1p(exp(least - most));  // infinities are not subtracted
  }
};

// Of equal ones the last, NaN before all
template <typename T>
struct Extremes {
  using A = Value<T>;
  struct State {
    A value;
    int64_t index;
  };
  static __device__ __forceinline__ State of(A value, int64_t index) { return {value, index}; }
  static __device__ __forceinline__ State joined(const ScanParams& p, const State& before, const State& later) {
    if (later.value != later.value) return later;
    if (before.value != before.value) return before;
    return (p.smallest ? later.value <= before.value : later.value >= before.value) ? later : before;
  }
  static __device__ __forceinline__ void store(const ScanParams& p, int64_t at, const State& state) {
    static_cast<T*>(p.out)[at] = Convert<T>::from(state.value);
    static_cast<int64_t*>(p.indices)[at] = state.index;
  }
};

template <class Op, typename T>
__device__ __forceinline__ void scan(const ScanParams& p) {
  using State = typename Op::State;
  BC_SHARED(shared);
  State* const states = reinterpret_cast<State*>(shared);
  const Team team(p.team, false);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t row = team.row(), n = row < p.rows ? p.n : 0;
  const int64_t base = row / p.inner * p.inner * p.n + row % p.inner;
  const T* const in = static_cast<const T*>(p.in) + base;
  State before{};  // of the pieces so far
  for (int64_t piece = 0; piece < p.n; piece += team.size * kScanValues) {
    const int64_t first = piece + team.lane * kScanValues;
    const int count = static_cast<int>(max(int64_t(0), min(int64_t(kScanValues), n - first)));
    State mine[kScanValues], last{};
#pragma unroll
    for (int i = 0; i < kScanValues; ++i) {
      if (i < count) {
        const State own = Op::of(value_of(in[(first + i) * p.inner]), first + i);
        last = i == 0 ? own : Op::joined(p, last, own);
        mine[i] = last;
      }
    }
    // Only threads at the row's end have less than kScanValues or nothing: none of a later lane needs theirs
    __syncthreads();
    states[thread] = last;
    for (int lanes = 1; lanes < team.size; lanes *= 2) {
      __syncthreads();
      State other{};
      if (team.lane >= lanes) other = states[thread - lanes];
      __syncthreads();
      if (team.lane >= lanes) states[thread] = last = Op::joined(p, other, last);
    }
    __syncthreads();
    const bool follows = piece > 0 || team.lane > 0;
    State past = before;
    if (team.lane > 0) past = piece > 0 ? Op::joined(p, before, states[thread - 1]) : states[thread - 1];
#pragma unroll
    for (int i = 0; i < kScanValues; ++i) {
      if (i < count) Op::store(p, base + (first + i) * p.inner, follows ? Op::joined(p, past, mine[i]) : mine[i]);
    }
    const State all = states[thread - team.lane + team.size - 1];
    before = piece > 0 ? Op::joined(p, before, all) : all;
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_scan_sum_f32, 512, ScanParams, scan<Sums<float>, float>)
BC_ENTRY(compat_scan_sum_f16, 512, ScanParams, scan<Sums<f16>, f16>)
BC_ENTRY(compat_scan_sum_bf16, 512, ScanParams, scan<Sums<bf16>, bf16>)
BC_ENTRY(compat_scan_sum_f64, 512, ScanParams, scan<Sums<double>, double>)
BC_ENTRY(compat_scan_sum_i64, 512, ScanParams, scan<Sums<long long>, long long>)
BC_ENTRY(compat_scan_prod_f32, 512, ScanParams, scan<Products<float>, float>)
BC_ENTRY(compat_scan_prod_f16, 512, ScanParams, scan<Products<f16>, f16>)
BC_ENTRY(compat_scan_prod_bf16, 512, ScanParams, scan<Products<bf16>, bf16>)
BC_ENTRY(compat_scan_prod_f64, 512, ScanParams, scan<Products<double>, double>)
BC_ENTRY(compat_scan_prod_i64, 512, ScanParams, scan<Products<long long>, long long>)
BC_ENTRY(compat_scan_extreme_f32, 512, ScanParams, scan<Extremes<float>, float>)
BC_ENTRY(compat_scan_extreme_f16, 512, ScanParams, scan<Extremes<f16>, f16>)
BC_ENTRY(compat_scan_extreme_bf16, 512, ScanParams, scan<Extremes<bf16>, bf16>)
BC_ENTRY(compat_scan_extreme_f64, 512, ScanParams, scan<Extremes<double>, double>)
BC_ENTRY(compat_scan_extreme_i64, 512, ScanParams, scan<Extremes<long long>, long long>)
BC_ENTRY(compat_scan_logsum_f32, 512, ScanParams, scan<LogSums<float>, float>)
BC_ENTRY(compat_scan_logsum_f16, 512, ScanParams, scan<LogSums<f16>, f16>)
BC_ENTRY(compat_scan_logsum_bf16, 512, ScanParams, scan<LogSums<bf16>, bf16>)
BC_ENTRY(compat_scan_logsum_f64, 512, ScanParams, scan<LogSums<double>, double>)
