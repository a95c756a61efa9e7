// Reductions: each thread takes its share of an output's values, threads of a block combine what they have through shared memory,
// blocks in a second launch. The order is fixed by the sizes.
#include "kernels/moments.cuh"
#include "kernels/reduce.cuh"
#include "kernels/rows.cuh"

namespace blackwell_compat {

// `wide`: as it was computed
template <typename T, typename A>
__device__ __forceinline__ void put(void* out, int64_t i, A value, bool wide) {
  if (wide) {
    static_cast<A*>(out)[i] = value;
  } else {
    static_cast<T*>(out)[i] = Convert<T>::from(value);
  }
}

// Neighbours first: rounding errors of long sums stay small
template <typename A, int n>
__device__ __forceinline__ A tree_sum(const A (&values)[n]) {
  A sums[n];
#pragma unroll
  for (int i = 0; i < n; ++i) sums[i] = values[i];
#pragma unroll
  for (int step = 1; step < n; step *= 2) {
#pragma unroll
    for (int i = 0; i < n; i += 2 * step) sums[i] += sums[i + step];
  }
  return sums[0];
}

// Each reduction: a State, how it takes values that are `step` apart from `index` on, how two combine, what is stored of it

template <typename T>
struct Sum {
  using A = Value<T>;
  struct State {
    A sum = 0;
  };
  template <int n>
  static __device__ __forceinline__ void take(const ReduceParams&, State& state, const T (&read)[n], int64_t, int64_t) {
    A values[n];
#pragma unroll
    for (int i = 0; i < n; ++i) values[i] = value_of(read[i]);
    state.sum += tree_sum(values);
  }
  static __device__ __forceinline__ void combine(const ReduceParams&, State& state, const State& other) {
    state.sum += other.sum;
  }
  static __device__ __forceinline__ void store(const ReduceParams& p, int64_t i, const State& state) {
    put<T>(p.out, i, p.kind == ReduceKind::kMean ? state.sum / A(p.n) : state.sum, p.wide);
  }
};

template <typename T>
struct Product {
  using A = Value<T>;
  struct State {
    A product = 1;
  };
  template <int n>
  static __device__ __forceinline__ void take(const ReduceParams&, State& state, const T (&read)[n], int64_t, int64_t) {
#pragma unroll
    for (int i = 0; i < n; ++i) state.product *= value_of(read[i]);
  }
  static __device__ __forceinline__ void combine(const ReduceParams&, State& state, const State& other) {
    state.product *= other.product;
  }
  static __device__ __forceinline__ void store(const ReduceParams& p, int64_t i, const State& state) {
    put<T>(p.out, i, state.product, p.wide);
  }
};

// The largest or smallest value, NaN before all, and the first place where it stands
template <typename T>
struct Extreme {
  using A = Value<T>;
  struct State {
    int64_t index = -1;  // none yet
    A value = 0;
  };
  static __device__ __forceinline__ bool before(const ReduceParams& p, A value, A other) {
    if (other != other) return false;
    return value != value || (p.kind == ReduceKind::kMax ? value > other : value < other);
  }
  template <int n>
  static __device__ __forceinline__ void take(const ReduceParams& p, State& state, const T (&read)[n], int64_t index,
                                              int64_t step) {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const A value = value_of(read[i]);
      if (state.index < 0 || before(p, value, state.value)) {
        state.index = index + i * step;
        state.value = value;
      }
    }
  }
  static __device__ __forceinline__ void combine(const ReduceParams& p, State& state, const State& other) {
    if (other.index < 0) return;
    const bool first = state.index < 0 || before(p, other.value, state.value) ||
                       (other.index < state.index && !before(p, state.value, other.value));
    if (first) state = other;
  }
  static __device__ __forceinline__ void store(const ReduceParams& p, int64_t i, const State& state) {
    if (p.out) put<T>(p.out, i, state.value, false);
    if (p.second) static_cast<int64_t*>(p.second)[i] = state.index;
  }
};

// T are bits, of which the highest may count for nothing: the sign
template <typename T>
struct Truth {
  struct State {
    int found = 0;  // something true for kAny, something false for kAll
  };
  template <int n>
  static __device__ __forceinline__ void take(const ReduceParams& p, State& state, const T (&read)[n], int64_t, int64_t) {
    const bool all = p.kind == ReduceKind::kAll;
#pragma unroll
    for (int i = 0; i < n; ++i) state.found |= (static_cast<T>(read[i] << p.ignored_bits) == 0) == all;
  }
  static __device__ __forceinline__ void combine(const ReduceParams&, State& state, const State& other) {
    state.found |= other.found;
  }
  static __device__ __forceinline__ void store(const ReduceParams& p, int64_t i, const State& state) {
    static_cast<unsigned char*>(p.out)[i] = (state.found != 0) != (p.kind == ReduceKind::kAll);
  }
};

// (sum of |value|^order)^(1 / order), or what it tends to
template <typename T>
struct Norm {
  using A = Value<T>;
  struct State {
    A sum = 0;
    bool any = false;
  };
  static __device__ __forceinline__ bool is_infinite(const ReduceParams& p) { return p.norm >= NormKind::kLargest; }
  static __device__ __forceinline__ A extreme(const ReduceParams& p, A a, A b) {
    if (a != a || b != b) return a + b;
    return (p.norm == NormKind::kLargest) == (a > b) ? a : b;
  }
  template <int n>
  static __device__ __forceinline__ void take(const ReduceParams& p, State& state, const T (&read)[n], int64_t, int64_t) {
    A values[n];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const A value = value_of(read[i]), size = value < 0 ? -value : value;
      switch (p.norm) {
        case NormKind::kSquares:
          values[i] = value * value;
          break;
        case NormKind::kNonzero:
          values[i] = value != 0;
          break;
        case NormKind::kPower:
          values[i] = pow(size, A(p.order));
          break;
        default:
          values[i] = size;
      }
    }
    if (!is_infinite(p)) {
      state.sum += tree_sum(values);
      return;
    }
#pragma unroll
    for (int i = 0; i < n; ++i) {
      state.sum = state.any ? extreme(p, state.sum, values[i]) : values[i];
      state.any = true;
    }
  }
  static __device__ __forceinline__ void combine(const ReduceParams& p, State& state, const State& other) {
    if (!is_infinite(p)) {
      state.sum += other.sum;
    } else if (other.any) {
      state.sum = state.any ? extreme(p, state.sum, other.sum) : other.sum;
      state.any = true;
    }
  }
  static __device__ __forceinline__ void store(const ReduceParams& p, int64_t i, const State& state) {
    A value = state.sum;
    if (p.norm == NormKind::kSquares) value = sqrt(value);
    if (p.norm == NormKind::kPower) value = pow(value, A(1 / p.order));
    put<T>(p.out, i, value, p.wide);
  }
};

template <typename T>
struct Variance {
  using A = Value<T>;
  using State = Moments<A>;
  template <int n>
  static __device__ __forceinline__ void take(const ReduceParams&, State& state, const T (&read)[n], int64_t, int64_t) {
    A values[n];
#pragma unroll
    for (int i = 0; i < n; ++i) values[i] = value_of(read[i]);
    state.take(values);
  }
  static __device__ __forceinline__ void combine(const ReduceParams&, State& state, const State& other) { state.add(other); }
  static __device__ __forceinline__ void store(const ReduceParams& p, int64_t i, const State& state) {
    A value;
    if (p.kind == ReduceKind::kRstd) {
      value = inverse_root(state.squares / A(p.n) + A(p.correction));
    } else {
      value = state.squares / A(max(double(p.n) - p.correction, 0.0));
      if (p.kind == ReduceKind::kStd) value = sqrt(value);
    }
    if (p.out) put<T>(p.out, i, value, p.wide);
    if (p.second) put<T>(p.second, i, state.mean(), p.wide);
  }
};

__device__ __forceinline__ int64_t offset_of(const ReduceDims& dims, int64_t i) {
  int64_t offset = 0;
  unsigned rest = static_cast<unsigned>(i);
#pragma unroll
  for (int d = 0; d < kReduceDims; ++d) {
    if (d == dims.count - 1) {
      offset += rest * dims.stride[d];
    } else if (d < dims.count) {
      const unsigned size = static_cast<unsigned>(dims.size[d]);
      offset += rest % size * dims.stride[d];
      rest /= size;
    }
  }
  return offset;
}

// What one thread takes of in[0], in[1], ...: from `first` to `end`, beginning at its lane
template <class Op, typename T>
__device__ __forceinline__ void take_all(const ReduceParams& p, typename Op::State& state, const T* in, int64_t first,
                                         int64_t end, int lane) {
  constexpr int kPack = Pack<T>::kSize, kTurns = 4;
  const int64_t step = p.lanes;
  if (p.packs) {
    int64_t i = first + int64_t(lane) * kPack;
    for (; i + (kTurns - 1) * step * kPack < end; i += kTurns * step * kPack) {
      Pack<T> read[kTurns];
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
        read[turn] = *reinterpret_cast<const Pack<T>*>(in + offset_of(p.reduced, i + turn * step * kPack));
      }
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) Op::take(p, state, read[turn].value, i + turn * step * kPack, 1);
    }
    for (; i < end; i += step * kPack) {
      const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(in + offset_of(p.reduced, i));
      Op::take(p, state, pack.value, i, 1);
    }
    return;
  }
  int64_t i = first + lane;
  for (; i + (kTurns - 1) * step < end; i += kTurns * step) {
    T read[kTurns];
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) read[turn] = in[offset_of(p.reduced, i + turn * step)];
    Op::take(p, state, read, i, step);
  }
  for (; i < end; i += step) {
    const T read[1] = {in[offset_of(p.reduced, i)]};
    Op::take(p, state, read, i, step);
  }
}

template <class Op, typename T>
__device__ __forceinline__ void reduce(const ReduceParams& p) {
  using State = typename Op::State;
  BC_SHARED(shared);
  State* const states = reinterpret_cast<State*>(shared);
  const int thread = static_cast<int>(threadIdx.x), outputs = kReduceThreads / p.lanes;
  const int lane = p.across ? thread / outputs : thread % p.lanes, output = p.across ? thread % outputs : thread / p.lanes;
  const int64_t block = blockIdx.x % p.output_blocks, split = blockIdx.x / p.output_blocks, i = block * outputs + output;
  State state;
  if (i < p.outputs) {
    if (!p.combines) {
      const T* const in = static_cast<const T*>(p.in) + offset_of(p.kept, i);
      take_all<Op>(p, state, in, split * p.part, min(p.n, (split + 1) * p.part), lane);
    } else {
      const State* const partial = static_cast<const State*>(p.partial);
      for (int other = lane; other < p.splits; other += p.lanes) Op::combine(p, state, partial[other * p.outputs + i]);
    }
  }
  const int neighbour = p.across ? outputs : 1;
  for (int lanes = p.lanes / 2; lanes > 0; lanes /= 2) {
    states[thread] = state;
    __syncthreads();
    if (lane < lanes) Op::combine(p, state, states[thread + lanes * neighbour]);
    __syncthreads();
  }
  if (lane != 0 || i >= p.outputs) return;
  if (!p.combines && p.splits > 1) {
    static_cast<State*>(p.partial)[split * p.outputs + i] = state;
  } else {
    Op::store(p, i, state);
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_reduce_sum_f32, 256, ReduceParams, reduce<Sum<float>, float>)
BC_ENTRY(compat_reduce_sum_f16, 256, ReduceParams, reduce<Sum<f16>, f16>)
BC_ENTRY(compat_reduce_sum_bf16, 256, ReduceParams, reduce<Sum<bf16>, bf16>)
BC_ENTRY(compat_reduce_sum_f64, 256, ReduceParams, reduce<Sum<double>, double>)
BC_ENTRY(compat_reduce_sum_i64, 256, ReduceParams, reduce<Sum<long long>, long long>)
BC_ENTRY(compat_reduce_sum_i32, 256, ReduceParams, reduce<Sum<int>, int>)
BC_ENTRY(compat_reduce_sum_u8, 256, ReduceParams, reduce<Sum<unsigned char>, unsigned char>)
BC_ENTRY(compat_reduce_prod_f32, 256, ReduceParams, reduce<Product<float>, float>)
BC_ENTRY(compat_reduce_prod_f16, 256, ReduceParams, reduce<Product<f16>, f16>)
BC_ENTRY(compat_reduce_prod_bf16, 256, ReduceParams, reduce<Product<bf16>, bf16>)
BC_ENTRY(compat_reduce_prod_f64, 256, ReduceParams, reduce<Product<double>, double>)
BC_ENTRY(compat_reduce_prod_i64, 256, ReduceParams, reduce<Product<long long>, long long>)
BC_ENTRY(compat_reduce_extreme_f32, 256, ReduceParams, reduce<Extreme<float>, float>)
BC_ENTRY(compat_reduce_extreme_f16, 256, ReduceParams, reduce<Extreme<f16>, f16>)
BC_ENTRY(compat_reduce_extreme_bf16, 256, ReduceParams, reduce<Extreme<bf16>, bf16>)
BC_ENTRY(compat_reduce_extreme_f64, 256, ReduceParams, reduce<Extreme<double>, double>)
BC_ENTRY(compat_reduce_extreme_i64, 256, ReduceParams, reduce<Extreme<long long>, long long>)
BC_ENTRY(compat_reduce_extreme_i32, 256, ReduceParams, reduce<Extreme<int>, int>)
BC_ENTRY(compat_reduce_extreme_u8, 256, ReduceParams, reduce<Extreme<unsigned char>, unsigned char>)
BC_ENTRY(compat_reduce_truth_u8, 256, ReduceParams, reduce<Truth<unsigned char>, unsigned char>)
BC_ENTRY(compat_reduce_truth_i16, 256, ReduceParams, reduce<Truth<unsigned short>, unsigned short>)
BC_ENTRY(compat_reduce_truth_i32, 256, ReduceParams, reduce<Truth<unsigned>, unsigned>)
BC_ENTRY(compat_reduce_truth_i64, 256, ReduceParams, reduce<Truth<unsigned long long>, unsigned long long>)
BC_ENTRY(compat_reduce_norm_f32, 256, ReduceParams, reduce<Norm<float>, float>)
BC_ENTRY(compat_reduce_norm_f16, 256, ReduceParams, reduce<Norm<f16>, f16>)
BC_ENTRY(compat_reduce_norm_bf16, 256, ReduceParams, reduce<Norm<bf16>, bf16>)
BC_ENTRY(compat_reduce_norm_f64, 256, ReduceParams, reduce<Norm<double>, double>)
BC_ENTRY(compat_reduce_var_f32, 256, ReduceParams, reduce<Variance<float>, float>)
BC_ENTRY(compat_reduce_var_f16, 256, ReduceParams, reduce<Variance<f16>, f16>)
BC_ENTRY(compat_reduce_var_bf16, 256, ReduceParams, reduce<Variance<bf16>, bf16>)
BC_ENTRY(compat_reduce_var_f64, 256, ReduceParams, reduce<Variance<double>, double>)
