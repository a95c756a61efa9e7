// The first of the elements with one key reduces them all: no two threads write to one place, and the order is that of the
// source.
#include "kernels/accumulate.cuh"
#include "kernels/platform.cuh"
#include "kernels/steps.cuh"

namespace blackwell_compat {

__device__ __forceinline__ void accumulate_keys(const KeysParams& p) {
  const unsigned i = blockIdx.x * kAccumulateThreads + threadIdx.x;
  if (i >= p.size) return;
  int64_t key = 0, at = 0;
  each_step(i, p.sizes, kAccumulateDims, [&](int d, unsigned step) {
    key += step * p.strides[d];
    at += step * p.index_strides[d];
  });
  for (int k = 0; k < p.count; ++k) {
    int64_t row = p.wide ? static_cast<const int64_t*>(p.indices[k])[at] : static_cast<const int*>(p.indices[k])[at];
    if (p.skips && row == p.skipped) {
      key = -1;
      break;
    }
    if (row < 0) row += p.rows[k];
    if (row < 0 || row >= p.rows[k]) __trap();
    key += row * p.row_strides[k];
  }
  if (p.wide_keys) {
    static_cast<int64_t*>(p.keys)[i] = key;
  } else {
    static_cast<int*>(p.keys)[i] = static_cast<int>(key);
  }
}

// What whole numbers are summed in wraps around as they do
template <typename T>
struct Sum {
  using Type = int64_t;
  static __device__ __forceinline__ T from(int64_t value) { return static_cast<T>(value); }
  static __device__ __forceinline__ int64_t mean(int64_t sum, int64_t count) {
    const int64_t quotient = sum / count;
    return quotient - (sum % count < 0);
  }
};
template <typename T, typename A>
struct RealSum {
  using Type = A;
  static __device__ __forceinline__ T from(A value) { return Convert<T>::from(value); }
  static __device__ __forceinline__ A mean(A sum, int64_t count) { return sum / static_cast<A>(count); }
};
template <>
struct Sum<float> : RealSum<float, float> {};
template <>
struct Sum<f16> : RealSum<f16, float> {};
template <>
struct Sum<bf16> : RealSum<bf16, float> {};
template <>
struct Sum<double> : RealSum<double, double> {};

__device__ __forceinline__ int64_t value_of(signed char value) { return value; }
__device__ __forceinline__ int64_t value_of(unsigned char value) { return value; }
__device__ __forceinline__ int64_t value_of(short value) { return value; }
__device__ __forceinline__ int64_t value_of(int value) { return value; }
__device__ __forceinline__ int64_t value_of(int64_t value) { return value; }
template <typename T>
__device__ __forceinline__ auto value_of(T value) {
  return to_float(value);
}

// NaN stays NaN
template <typename A>
__device__ __forceinline__ A reduced(Reduce reduce, A a, A b) {
  switch (reduce) {
    case Reduce::kProduct:
      return a * b;
    case Reduce::kMaximum:
      return a != a || a > b ? a : b;
    case Reduce::kMinimum:
      return a != a || a < b ? a : b;
    default:
      return a + b;
  }
}

template <typename T>
__device__ __forceinline__ void accumulate(const AccumulateParams& p) {
  using A = typename Sum<T>::Type;
  const int64_t all = int64_t(p.count) * p.width, threads = int64_t(gridDim.x) * kAccumulateThreads;
  const auto key_at = [&](unsigned i) -> int64_t {
    return p.wide_keys ? static_cast<const int64_t*>(p.keys)[i] : static_cast<const int*>(p.keys)[i];
  };
  for (int64_t element = int64_t(blockIdx.x) * kAccumulateThreads + threadIdx.x; element < all; element += threads) {
    const unsigned i = static_cast<unsigned>(element / p.width);
    const unsigned place = static_cast<unsigned>(element - int64_t(i) * p.width);
    const int64_t key = key_at(i);
    if (key < 0 || (i > 0 && key_at(i - 1) == key)) continue;
    int64_t from = 0, to = key;
    each_step(place, p.sizes, kAccumulateDims, [&](int d, unsigned step) {
      from += step * p.from_strides[d];
      to += step * p.to_strides[d];
    });
    T* const target = static_cast<T*>(p.to) + to;
    const T* const source = static_cast<const T*>(p.from) + from;
    A sum = p.with_self ? value_of(*target) : value_of(source[p.order[i] * p.from_stride]);
    unsigned k = p.with_self ? i : i + 1;
    for (; k < p.count && key_at(k) == key; ++k) sum = reduced(p.reduce, sum, A(value_of(source[p.order[k] * p.from_stride])));
    if (p.reduce == Reduce::kMean) sum = Sum<T>::mean(sum, int64_t(k) - i + p.with_self);
    *target = Sum<T>::from(sum);
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_accumulate_keys, 256, KeysParams, accumulate_keys)
BC_ENTRY(compat_accumulate_f32, 256, AccumulateParams, accumulate<float>)
BC_ENTRY(compat_accumulate_f16, 256, AccumulateParams, accumulate<f16>)
BC_ENTRY(compat_accumulate_bf16, 256, AccumulateParams, accumulate<bf16>)
BC_ENTRY(compat_accumulate_f64, 256, AccumulateParams, accumulate<double>)
BC_ENTRY(compat_accumulate_i64, 256, AccumulateParams, accumulate<long long>)
BC_ENTRY(compat_accumulate_i32, 256, AccumulateParams, accumulate<int>)
BC_ENTRY(compat_accumulate_i16, 256, AccumulateParams, accumulate<short>)
BC_ENTRY(compat_accumulate_i8, 256, AccumulateParams, accumulate<signed char>)
BC_ENTRY(compat_accumulate_u8, 256, AccumulateParams, accumulate<unsigned char>)
