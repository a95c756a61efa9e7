// Pointwise ops: the expressions of kernels/pointwise_ops.cuh over operands of any strides and dtypes.
#include "kernels/pointwise.cuh"
#include "kernels/pointwise_cast.cuh"
#include "kernels/pointwise_math.cuh"

namespace blackwell_compat {

template <typename T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
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

  // A vector of an operand as it lies in memory, or the one value that stands for all of it
  struct alignas(16) Raw {
    unsigned char bytes[16];
  };
  template <typename From>
  static __device__ __forceinline__ void load(Raw& raw, const char* at, bool stays) {
    if (stays) {
      *reinterpret_cast<From*>(raw.bytes) = *reinterpret_cast<const From*>(at);
    } else {
      *reinterpret_cast<Pack<From, kWidth>*>(raw.bytes) = *reinterpret_cast<const Pack<From, kWidth>*>(at);
    }
  }
  template <typename From>
  static __device__ __forceinline__ void convert(A (&x)[kWidth], const Raw& raw, bool stays) {
    if (stays) {
      const A one = Cast<A, From>::from(*reinterpret_cast<const From*>(raw.bytes));
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] = one;
    } else {
      const Pack<From, kWidth> pack = *reinterpret_cast<const Pack<From, kWidth>*>(raw.bytes);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] = Cast<A, From>::from(pack.value[i]);
    }
  }
  template <typename To>
  static __device__ __forceinline__ void store(char* at, const Value (&made)[kWidth]) {
    Pack<To, kWidth> pack;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) pack.value[i] = Cast<To, Value>::from(made[i]);
    *reinterpret_cast<Pack<To, kWidth>*>(at) = pack;
  }

  // Of a dtype that vectors may have
  static __device__ __forceinline__ void load_any(Raw& raw, const char* at, ScalarKind kind, bool stays) {
    if (kind == KindOf<T>::kind) {
      load<T>(raw, at, stays);
    } else if (pointwise_widens(KindOf<T>::kind) && kind != ScalarKind::kBool) {
      load<bf16>(raw, at, stays);
    } else {
      load<bool>(raw, at, stays);
    }
  }
  static __device__ __forceinline__ void operand(A (&x)[kWidth], const PointwiseParams& p, int k, const Raw& raw) {
    const ScalarKind kind = p.kind[k + 1];
    const bool stays = p.stride[k + 1][0] == 0;
    if (!p.data[k + 1]) {
      const A one = Number<A>::of(p.immediate[k]);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] = one;
    } else if (kind == KindOf<T>::kind) {
      convert<T>(x, raw, stays);
    } else if (pointwise_widens(KindOf<T>::kind) && kind == ScalarKind::kHalf) {
      convert<f16>(x, raw, stays);
    } else if (pointwise_widens(KindOf<T>::kind) && kind == ScalarKind::kBFloat16) {
      convert<bf16>(x, raw, stays);
    } else {
      convert<bool>(x, raw, stays);
    }
  }
  static __device__ __forceinline__ void store_any(char* at, ScalarKind kind, const Value (&made)[kWidth]) {
    if (kind == KindOf<Result>::kind) {
      store<Result>(at, made);
    } else if constexpr (pointwise_casts(KindOf<Result>::kind)) {
      if (kind == ScalarKind::kFloat) {
        store<float>(at, made);
      } else if (kind == ScalarKind::kHalf) {
        store<f16>(at, made);
      } else {
        store<bf16>(at, made);
      }
    }
  }

  // What is left of one line when it is divided into vectors
  static __device__ __forceinline__ void tail(const PointwiseParams& p, int first) {
#pragma unroll 1
    for (int i = first; i < p.size; ++i) {
      A x[kMostPointwiseInputs] = {};
#pragma unroll
      for (int k = 0; k < kOperands; ++k) {
        const char* const base = static_cast<const char*>(p.data[k + 1]);
        x[k] = base ? read_any<A>(base + i * p.stride[k + 1][0], p.kind[k + 1]) : Number<A>::of(p.immediate[k]);
      }
      write_any(static_cast<char*>(p.data[0]) + i * p.stride[0][0], p.kind[0], Op::apply(x[0], x[1], x[2], {p}));
    }
  }

  static __device__ __forceinline__ void packs(const PointwiseParams& p) {
    constexpr int kVectors = pointwise_vectors(kOperands);
    const int count = p.size / kWidth, first = blockIdx.x * kVectors * kPointwiseThreads + threadIdx.x;
    int offset[1 + kOperands][kVectors] = {}, rest[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) rest[v] = first + v * kPointwiseThreads;
#pragma unroll 1
    for (int d = 0; d < p.dims; ++d) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        const int outer = d + 1 < p.dims ? quotient(rest[v], p.extent[d], p.by_extent[d]) : 0;
        const int here = (rest[v] - outer * p.extent[d]) * (d ? 1 : kWidth);
#pragma unroll
        for (int k = 0; k <= kOperands; ++k) offset[k][v] += here * p.stride[k][d];
        rest[v] = outer;
      }
    }
    Raw in[kMostPointwiseInputs][kVectors];
#pragma unroll
    for (int k = 0; k < kOperands; ++k) {
      const char* const base = static_cast<const char*>(p.data[k + 1]);
      if (!base) continue;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        if (first + v * kPointwiseThreads >= count) break;
        load_any(in[k][v], base + offset[k + 1][v], p.kind[k + 1], p.stride[k + 1][0] == 0);
      }
    }
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int at = first + v * kPointwiseThreads;
      if (at == count) tail(p, count * kWidth);
      if (at >= count) break;
      A x[kMostPointwiseInputs][kWidth] = {};
#pragma unroll
      for (int k = 0; k < kOperands; ++k) operand(x[k], p, k, in[k][v]);
      Value made[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i) made[i] = Op::apply(x[0][i], x[1][i], x[2][i], {p});
      store_any(static_cast<char*>(p.data[0]) + offset[0][v], p.kind[0], made);
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
  if (p.packs) {
    Pointwise<Op>::packs(p);
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
