// What values of a dtype are computed as, and conversions between dtypes.
#pragma once
#include "kernels/platform.cuh"
#include "kernels/pointwise.cuh"
#include "kernels/pointwise_math.cuh"

namespace blackwell_compat {

// The type that values of a dtype are computed in
template <typename T>
struct Computed {
  using Type = T;
};
template <>
struct Computed<f16> {
  using Type = float;
};
template <>
struct Computed<bf16> {
  using Type = float;
};
template <>
struct Computed<short> {
  using Type = int;
};
template <>
struct Computed<signed char> {
  using Type = int;
};
template <>
struct Computed<unsigned char> {
  using Type = int;
};
template <>
struct Computed<bool> {
  using Type = int;
};
template <typename T>
using Compute = typename Computed<T>::Type;

// Conversions as static_cast has them, of 16-bit floats by way of float, of complex numbers by their real part
template <typename To, typename From>
struct Cast {
  static __device__ __forceinline__ To from(From value) { return static_cast<To>(value); }
};
template <typename From>
struct Cast<bool, From> {
  static __device__ __forceinline__ bool from(From value) { return value != From(0); }
};
template <typename From>
struct Cast<f16, From> {
  static __device__ __forceinline__ f16 from(From value) { return Convert<f16>::from(static_cast<float>(value)); }
};
template <typename From>
struct Cast<bf16, From> {
  static __device__ __forceinline__ bf16 from(From value) { return Convert<bf16>::from(static_cast<float>(value)); }
};
template <typename To>
struct Cast<To, f16> {
  static __device__ __forceinline__ To from(f16 value) { return Cast<To, float>::from(to_float(value)); }
};
template <typename To>
struct Cast<To, bf16> {
  static __device__ __forceinline__ To from(bf16 value) { return Cast<To, float>::from(to_float(value)); }
};
template <typename From>
struct Cast<c64, From> {
  static __device__ __forceinline__ c64 from(From value) { return c64(static_cast<float>(value)); }
};
template <typename To>
struct Cast<To, c64> {
  static __device__ __forceinline__ To from(c64 value) { return Cast<To, float>::from(value.x); }
};
template <>
struct Cast<unsigned char, float> {
  static __device__ __forceinline__ unsigned char from(float value) { return static_cast<unsigned char>(int64_t(value)); }
};
template <>
struct Cast<unsigned char, double> {
  static __device__ __forceinline__ unsigned char from(double value) { return static_cast<unsigned char>(int64_t(value)); }
};
template <>
struct Cast<bool, c64> {
  static __device__ __forceinline__ bool from(c64 value) { return value != c64(0); }
};
template <>
struct Cast<c64, c64> {
  static __device__ __forceinline__ c64 from(c64 value) { return value; }
};
template <>
struct Cast<c64, f16> {
  static __device__ __forceinline__ c64 from(f16 value) { return c64(to_float(value)); }
};
template <>
struct Cast<c64, bf16> {
  static __device__ __forceinline__ c64 from(bf16 value) { return c64(to_float(value)); }
};
template <>
struct Cast<f16, c64> {
  static __device__ __forceinline__ f16 from(c64 value) { return Convert<f16>::from(value.x); }
};
template <>
struct Cast<bf16, c64> {
  static __device__ __forceinline__ bf16 from(c64 value) { return Convert<bf16>::from(value.x); }
};

// A number of the call
template <typename A>
struct Number {
  static __device__ __forceinline__ A of(const PointwiseScalar& value) { return static_cast<A>(value.integer); }
};
template <>
struct Number<float> {
  static __device__ __forceinline__ float of(const PointwiseScalar& value) { return static_cast<float>(value.real); }
};
template <>
struct Number<double> {
  static __device__ __forceinline__ double of(const PointwiseScalar& value) { return value.real; }
};
template <>
struct Number<c64> {
  static __device__ __forceinline__ c64 of(const PointwiseScalar& value) {
    return c64(static_cast<float>(value.real), static_cast<float>(value.imag));
  }
};
template <typename A>
struct Numbers {
  const PointwiseParams& p;
  __device__ __forceinline__ A operator()(int i) const { return Number<A>::of(p.scalar[i]); }
};

}  // namespace blackwell_compat
