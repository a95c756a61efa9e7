// Activations of a result before it is stored, in float or double.
#pragma once

namespace blackwell_compat {

__device__ __forceinline__ float erf_of(float x) { return erff(x); }
__device__ __forceinline__ double erf_of(double x) { return erf(x); }
__device__ __forceinline__ float tanh_of(float x) { return tanhf(x); }
__device__ __forceinline__ double tanh_of(double x) { return tanh(x); }
__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }

// `kind` counts as Act of common/activation.h
template <typename A, typename Slope>
__device__ __forceinline__ A activated(A x, int kind, Slope slope) {
  switch (kind) {
    case 1:
      return x > 0 || x != x ? x : A(0);
    case 2:
      return x > 0 ? x : x * A(slope);
    case 3:
      return x * A(0.5) * (A(1) + erf_of(x * A(0.70710678118654752)));
    case 4:
      return x * A(0.5) * (A(1) + tanh_of(A(0.79788456080286536) * (x + A(0.044715) * x * x * x)));
    case 5:
      return x / (A(1) + exp_of(-x));
    case 6:
      return tanh_of(x);
    default:
      return x;
  }
}

}  // namespace blackwell_compat
