// Count, mean and sum of squared deviations, of parts that are then combined. Values count from the first that a part has seen,
// so that a mean far from zero costs no digits.
#pragma once
#include "kernels/platform.cuh"

namespace blackwell_compat {

__device__ __forceinline__ float inverse_root(float value) { return rsqrtf(value); }
__device__ __forceinline__ double inverse_root(double value) { return rsqrt(value); }

template <typename A>
struct Moments {
  A count = 0, first = 0, above = 0, squares = 0;

  __device__ __forceinline__ A mean() const { return first + above; }

  __device__ __forceinline__ void add(const Moments& other) {
    if (count == 0) {
      *this = other;
    } else if (other.count > 0) {
      const A all = count + other.count, share = other.count / all;
      const A delta = (other.first - first) + (other.above - above);
      above += delta * share;
      squares += other.squares + delta * delta * count * share;
      count = all;
    }
  }

  template <int n>
  __device__ __forceinline__ void take(const A (&values)[n]) {
    Moments part;
    part.count = n;
    part.first = count == 0 ? values[0] : first;
    A differences[n];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      differences[i] = values[i] - part.first;
      part.above += differences[i];
    }
    part.above /= n;
#pragma unroll
    for (int i = 0; i < n; ++i) part.squares += (differences[i] - part.above) * (differences[i] - part.above);
    add(part);
  }
};

}  // namespace blackwell_compat
