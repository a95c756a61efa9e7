// Functions that kernels/pointwise_ops.cuh names, for the types that values are computed in.
#pragma once
#include "kernels/complex.cuh"

namespace blackwell_compat {

using ::cos;
using ::exp;
using ::log;
using ::sin;
using ::sqrt;

constexpr double kPi = 3.14159265358979323846, kSqrtHalf = 0.70710678118654752;

template <typename T>
struct IsFloat {
  static constexpr bool value = false;
};
template <>
struct IsFloat<float> {
  static constexpr bool value = true;
};
template <>
struct IsFloat<double> {
  static constexpr bool value = true;
};

template <typename A>
__device__ __forceinline__ A least(A a, A b) {
  return a != a || a < b ? a : b;
}
template <typename A>
__device__ __forceinline__ A most(A a, A b) {
  return a != a || a > b ? a : b;
}

__device__ __forceinline__ bool is_infinite(float a) { return fabsf(a) == __int_as_float(0x7f800000); }
__device__ __forceinline__ bool is_infinite(double a) { return fabs(a) == __longlong_as_double(0x7ff0000000000000LL); }

__device__ __forceinline__ bool has_sign(float a) { return __float_as_int(a) < 0; }
__device__ __forceinline__ bool has_sign(double a) { return __double_as_longlong(a) < 0; }
__device__ __forceinline__ bool has_sign(int64_t a) { return a < 0; }
__device__ __forceinline__ bool has_sign(int a) { return a < 0; }

// Of integers, x / 0 is -1 as on a card, and the rest x
template <typename A>
__device__ __forceinline__ A divide_trunc(A a, A b) {
  if constexpr (IsFloat<A>::value) {
    return trunc(a / b);
  } else {
    return b == 0 ? A(-1) : b == -1 ? A(0) - a : a / b;
  }
}
template <typename A>
__device__ __forceinline__ A fmod_of(A a, A b) {
  if constexpr (IsFloat<A>::value) {
    return fmod(a, b);
  } else {
    return b == 0 ? a : b == -1 ? A(0) : a % b;
  }
}
// With the divisor's sign
template <typename A>
__device__ __forceinline__ A remainder_of(A a, A b) {
  const A rest = fmod_of(a, b);
  return rest != A(0) && (rest < A(0)) != (b < A(0)) ? rest + b : rest;
}
template <typename A>
__device__ __forceinline__ A divide_floor(A a, A b) {
  if constexpr (IsFloat<A>::value) {
    if (b == 0) return a / b;
    const A rest = fmod(a, b);
    A whole = (a - rest) / b;
    if (rest != 0 && (b < 0) != (rest < 0)) whole -= 1;
    if (whole == 0) return copysign(A(0), a / b);
    const A down = floor(whole);
    return whole - down > A(0.5) ? down + 1 : down;
  } else {
    const A whole = divide_trunc(a, b);
    return b != 0 && a != whole * b && (a < 0) != (b < 0) ? whole - 1 : whole;
  }
}

template <typename A>
__device__ __forceinline__ A power(A a, A b) {
  if constexpr (IsFloat<A>::value) {
    return b == 2 ? a * a : b == A(0.5) ? sqrt(a) : b == 3 ? a * a * a : b == -1 ? 1 / a : pow(a, b);
  } else {
    if (b < 0) return a == 1 ? A(1) : a == -1 ? (b % 2 == 0 ? A(1) : A(-1)) : A(0);
    unsigned long long result = 1, base = static_cast<unsigned long long>(a);
    for (; b > 0; b /= 2, base *= base) {
      if (b % 2 == 1) result *= base;
    }
    return static_cast<A>(result);
  }
}

template <typename A>
__device__ __forceinline__ A inverse_sqrt(A a) {
  if constexpr (sizeof(A) == sizeof(float)) {
    return rsqrtf(a);
  } else {
    return rsqrt(a);
  }
}
template <>
__device__ __forceinline__ c64 inverse_sqrt<c64>(c64 a) {
  return c64(1) / sqrt(a);
}

template <typename A>
__device__ __forceinline__ A lerp_of(A a, A b, A weight) {
  return fabs(weight) < A(0.5) ? a + weight * (b - a) : b - (b - a) * (A(1) - weight);
}
template <>
__device__ __forceinline__ c64 lerp_of<c64>(c64 a, c64 b, c64 weight) {
  return hypotf(weight.x, weight.y) < 0.5f ? a + weight * (b - a) : b - (b - a) * (c64(1) - weight);
}

template <typename A>
__device__ __forceinline__ A log_add_exp(A a, A b) {
  if (is_infinite(a) && a == b) return a;
  const A large = most(a, b);
  return large + log1p(exp(-fabs(a - b)));
}

template <typename A>
__device__ __forceinline__ A gelu_inner(A a) {
  return A(0.79788456080286535588) * (a + A(0.044715) * a * a * a);
}
template <typename A>
__device__ __forceinline__ A gelu_gradient(A grad, A x) {
  const A distribution = A(0.5) * (A(1) + erf(x * A(kSqrtHalf)));
  return grad * (distribution + x * exp(A(-0.5) * x * x) * A(0.39894228040143267794));
}
template <typename A>
__device__ __forceinline__ A gelu_tanh_gradient(A grad, A x) {
  const A t = tanh(gelu_inner(x)), slope = A(0.79788456080286535588) * (A(1) + A(3 * 0.044715) * x * x);
  return grad * (A(0.5) * (A(1) + t) + A(0.5) * x * (A(1) - t * t) * slope);
}
template <typename A>
__device__ __forceinline__ A gate_gradient(A grad, A x, A gate) {
  const A sigmoid = A(1) / (A(1) + exp(-gate));
  return grad * x * sigmoid * (A(1) - sigmoid);
}

template <typename A>
__device__ __forceinline__ A silu_gradient(A grad, A x) {
  const A sigmoid = A(1) / (A(1) + exp(-x));
  return grad * sigmoid * (A(1) + x * (A(1) - sigmoid));
}
template <typename A>
__device__ __forceinline__ A mish_gradient(A grad, A x) {
  const A sigmoid = A(1) / (A(1) + exp(-x)), t = tanh(log1p(exp(x)));
  return grad * (t + x * sigmoid * (A(1) - t * t));
}

// By at least the width, or by less than nothing: as if bit by bit
template <typename A>
__device__ __forceinline__ A shifted_left(A a, A by, int bits) {
  return by < 0 || by >= bits ? A(0) : static_cast<A>(static_cast<unsigned long long>(a) << by);
}
template <typename A>
__device__ __forceinline__ A shifted_right(A a, A by, int bits) {
  return a >> (by < 0 || by >= bits ? bits - 1 : by);
}

}  // namespace blackwell_compat
