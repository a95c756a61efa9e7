// Pointwise ops: the expressions of kernels/pointwise_ops.cuh over operands of any strides and dtypes.
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

template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T value[N];
};

template <typename T>
struct KindOf;
#define BC_KIND(T, kind_of_it)                                 \
  template <>                                                  \
  struct KindOf<T> {                                           \
    static constexpr ScalarKind kind = ScalarKind::kind_of_it; \
  };
BC_KIND(float, kFloat)
BC_KIND(double, kDouble)
BC_KIND(f16, kHalf)
BC_KIND(bf16, kBFloat16)
BC_KIND(unsigned char, kByte)
BC_KIND(signed char, kChar)
BC_KIND(short, kShort)
BC_KIND(int, kInt)
BC_KIND(int64_t, kLong)
BC_KIND(bool, kBool)
BC_KIND(c64, kComplexFloat)
#undef BC_KIND

template <typename A, typename T>
__device__ __forceinline__ A read(const char* at) {
  return Cast<A, T>::from(*reinterpret_cast<const T*>(at));
}
template <typename T, typename V>
__device__ __forceinline__ void write(char* at, V value) {
  *reinterpret_cast<T*>(at) = Cast<T, V>::from(value);
}

// Of another dtype than the kernel's. Functions of their own, since all of them are many instructions
template <typename A>
__device__ __noinline__ A read_any(const char* at, ScalarKind kind) {
  switch (kind) {
    case ScalarKind::kFloat:
      return read<A, float>(at);
    case ScalarKind::kDouble:
      return read<A, double>(at);
    case ScalarKind::kHalf:
      return read<A, f16>(at);
    case ScalarKind::kBFloat16:
      return read<A, bf16>(at);
    case ScalarKind::kByte:
      return read<A, unsigned char>(at);
    case ScalarKind::kChar:
      return read<A, signed char>(at);
    case ScalarKind::kShort:
      return read<A, short>(at);
    case ScalarKind::kInt:
      return read<A, int>(at);
    case ScalarKind::kLong:
      return read<A, int64_t>(at);
    case ScalarKind::kBool:
      return read<A, bool>(at);
    default:
      return read<A, c64>(at);
  }
}
template <typename V>
__device__ __noinline__ void write_any(char* at, ScalarKind kind, V value) {
  switch (kind) {
    case ScalarKind::kFloat:
      return write<float>(at, value);
    case ScalarKind::kDouble:
      return write<double>(at, value);
    case ScalarKind::kHalf:
      return write<f16>(at, value);
    case ScalarKind::kBFloat16:
      return write<bf16>(at, value);
    case ScalarKind::kByte:
      return write<unsigned char>(at, value);
    case ScalarKind::kChar:
      return write<signed char>(at, value);
    case ScalarKind::kShort:
      return write<short>(at, value);
    case ScalarKind::kInt:
      return write<int>(at, value);
    case ScalarKind::kLong:
      return write<int64_t>(at, value);
    case ScalarKind::kBool:
      return write<bool>(at, value);
    default:
      return write<c64>(at, value);
  }
}

template <class Op>
struct Pointwise {
  using T = typename Op::T;
  using A = Compute<T>;
  using Result = typename Op::Result;
  using Value = Compute<Result>;
  static constexpr int kOperands = Op::kOperands, kWidth = pointwise_width(sizeof(T));

  // A vector of each operand, `at` elements from the start
  static __device__ __forceinline__ void load(const PointwiseParams& p, unsigned at,
                                              Pack<T, kWidth> (&in)[kMostPointwiseInputs]) {
#pragma unroll
    for (int k = 0; k < kOperands; ++k) {
      if (p.data[k + 1]) in[k] = *reinterpret_cast<const Pack<T, kWidth>*>(static_cast<const T*>(p.data[k + 1]) + at);
    }
  }
  static __device__ __forceinline__ A operand(const PointwiseParams& p, int k, T value) {
    return p.data[k + 1] ? Cast<A, T>::from(value) : Number<A>::of(p.immediate[k]);
  }

  static __device__ __forceinline__ void dense(const PointwiseParams& p) {
    const unsigned first = (blockIdx.x * kPointwiseVectors * kPointwiseThreads + threadIdx.x) * kWidth;
    const unsigned size = p.size;
    Pack<T, kWidth> in[kPointwiseVectors][kMostPointwiseInputs];
#pragma unroll
    for (int v = 0; v < kPointwiseVectors; ++v) {
      const unsigned at = first + v * kPointwiseThreads * kWidth;
      if (at + kWidth <= size) load(p, at, in[v]);
    }
#pragma unroll
    for (int v = 0; v < kPointwiseVectors; ++v) {
      const unsigned at = first + v * kPointwiseThreads * kWidth;
      Result* const out = static_cast<Result*>(p.data[0]) + at;
      if (at + kWidth <= size) {
        Pack<Result, kWidth> made;
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          A x[kMostPointwiseInputs] = {};
#pragma unroll
          for (int k = 0; k < kOperands; ++k) x[k] = operand(p, k, in[v][k].value[i]);
          made.value[i] = Cast<Result, Value>::from(Op::apply(x[0], x[1], x[2], {p}));
        }
        *reinterpret_cast<Pack<Result, kWidth>*>(out) = made;
      } else {
#pragma unroll 1
        for (unsigned i = 0; at + i < size; ++i) {
          A x[kMostPointwiseInputs] = {};
#pragma unroll
          for (int k = 0; k < kOperands; ++k) {
            x[k] = p.data[k + 1] ? Cast<A, T>::from(static_cast<const T*>(p.data[k + 1])[at + i]) : Number<A>::of(p.immediate[k]);
          }
          out[i] = Cast<Result, Value>::from(Op::apply(x[0], x[1], x[2], {p}));
        }
      }
    }
  }

  static __device__ __forceinline__ void strided(const PointwiseParams& p) {
    const unsigned first = blockIdx.x * kPointwiseElements * kPointwiseThreads + threadIdx.x, size = p.size;
    int offset[1 + kOperands][kPointwiseElements] = {}, rest[kPointwiseElements], count = 0;
#pragma unroll
    for (int j = 0; j < kPointwiseElements; ++j) {
      const unsigned at = first + j * kPointwiseThreads;
      count += at < size;
      rest[j] = at;
    }
#pragma unroll 1
    for (int d = 0; d < p.dims; ++d) {
#pragma unroll
      for (int j = 0; j < kPointwiseElements; ++j) {
        const int outer = quotient(rest[j], p.extent[d], p.by_extent[d]), here = rest[j] - outer * p.extent[d];
#pragma unroll
        for (int k = 0; k <= kOperands; ++k) offset[k][j] += here * p.stride[k][d];
        rest[j] = outer;
      }
    }
    A x[kMostPointwiseInputs][kPointwiseElements] = {};
#pragma unroll
    for (int k = 0; k < kOperands; ++k) {
      const char* const base = static_cast<const char*>(p.data[k + 1]);
      const bool converts = p.kind[k + 1] != KindOf<T>::kind;
#pragma unroll
      for (int j = 0; j < kPointwiseElements; ++j) {
        if (!base) {
          x[k][j] = Number<A>::of(p.immediate[k]);
        } else if (j < count) {
          x[k][j] = converts ? read_any<A>(base + offset[k + 1][j], p.kind[k + 1]) : read<A, T>(base + offset[k + 1][j]);
        }
      }
    }
    const bool converts = p.kind[0] != KindOf<Result>::kind;
#pragma unroll
    for (int j = 0; j < kPointwiseElements; ++j) {
      if (j >= count) break;
      const Value made = Op::apply(x[0][j], x[1][j], x[2][j], {p});
      char* const at = static_cast<char*>(p.data[0]) + offset[0][j];
      if (converts) {
        write_any(at, p.kind[0], made);
      } else {
        write<Result>(at, made);
      }
    }
  }
};

template <class Op>
__device__ __forceinline__ void pointwise(const PointwiseParams& p) {
  if (p.dense) {
    Pointwise<Op>::dense(p);
  } else {
    Pointwise<Op>::strided(p);
  }
}

#define BC_POINTWISE(name, dtypes, operands, result, ...)                                                                     \
  template <typename S>                                                                                                       \
  struct name##_op {                                                                                                          \
    using T = S;                                                                                                              \
    using A = Compute<S>;                                                                                                     \
    using Result = result;                                                                                                    \
    static constexpr int kOperands = operands, kBits = 8 * sizeof(S);                                                         \
    static __device__ __forceinline__ Compute<Result> apply([[maybe_unused]] A a, [[maybe_unused]] A b, [[maybe_unused]] A c, \
                                                            [[maybe_unused]] const Numbers<A> s) {                            \
      return Compute<Result>(__VA_ARGS__);                                                                                    \
    }                                                                                                                         \
  };
#include "kernels/pointwise_ops.cuh"
#undef BC_POINTWISE

}  // namespace blackwell_compat

using namespace blackwell_compat;

#include "kernels/pointwise_entries.cuh"
