// The generator is Philox4x32-10 of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011). Which of its numbers an
// element gets, and how they are transformed, follows PyTorch's ATen/native/cuda/DistributionTemplates.h and cuRAND.
#include "kernels/platform.cuh"
#include "kernels/random.cuh"

namespace blackwell_compat {

// The four numbers of `sequence` at `offset`, which counts numbers and is a multiple of four
__device__ __forceinline__ uint4 philox(unsigned long long seed, unsigned long long sequence, unsigned long long offset) {
  const unsigned long long block = offset / 4;
  uint4 c = make_uint4(static_cast<unsigned>(block), static_cast<unsigned>(block >> 32), static_cast<unsigned>(sequence),
                       static_cast<unsigned>(sequence >> 32));
  unsigned low = static_cast<unsigned>(seed), high = static_cast<unsigned>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
    const unsigned high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
    c = make_uint4(high1 ^ c.y ^ low, low1, high0 ^ c.w ^ high, low0);
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
  return c;
}

// In (0, 1]
__device__ __forceinline__ float uniform_of(unsigned bits) { return static_cast<float>(bits) * 0x1p-32f + 0x1p-33f; }
__device__ __forceinline__ double uniform_of(unsigned low, unsigned high) {
  const unsigned long long bits = low ^ static_cast<unsigned long long>(high) << 21;
  return static_cast<double>(bits) * 0x1p-53 + 0x1p-54;
}

__device__ __forceinline__ float2 normals_of(unsigned first, unsigned second) {
  constexpr float kTurn = 2.3283064e-10f * 6.2831855f;
  const float radius = sqrtf(-2.0f * logf(uniform_of(first)));
  float2 result;
  __sincosf(fmaf(static_cast<float>(second), kTurn, kTurn / 2.0f), &result.x, &result.y);
  result.x *= radius;
  result.y *= radius;
  return result;
}
__device__ __forceinline__ double2 normals_of(uint4 bits) {
  const unsigned long long angle = bits.z ^ static_cast<unsigned long long>(bits.w) << 21;
  const double radius = sqrt(-2.0 * log(uniform_of(bits.x, bits.y))), turn = static_cast<double>(angle) * 0x1p-52 + 0x1p-53;
  return {sinpi(turn) * radius, cospi(turn) * radius};
}

__device__ __forceinline__ float fast_log(float value) { return __logf(value); }
__device__ __forceinline__ double fast_log(double value) { return log(value); }
__device__ __forceinline__ float fast_exp(float value) { return __expf(value); }
__device__ __forceinline__ double fast_exp(double value) { return exp(value); }
// Of half turns
__device__ __forceinline__ float tangent(float value) { return __tanf(3.14159265358979323846f * value); }
__device__ __forceinline__ double tangent(double value) { return sinpi(value) / cospi(value); }

template <typename A>
struct Machine;
template <>
struct Machine<float> {
  static constexpr float kEpsilon = 0x1p-23f;
};
template <>
struct Machine<double> {
  static constexpr double kEpsilon = 0x1p-52;
};

template <typename A>
__device__ __forceinline__ A cauchy(A value, A median, A sigma) {
  constexpr A kEpsilon = sizeof(A) == 4 ? Machine<A>::kEpsilon : A(0);
  value = max(min(value, 1 - kEpsilon), kEpsilon);
  return fma(sigma, tangent(value - A(0.5)), median);
}

// A value of the distribution from a uniform or normal one
template <typename A>
__device__ __forceinline__ A transformed(const RandomParams& p, A value) {
  const A a = static_cast<A>(p.a), b = static_cast<A>(p.b);
  constexpr A kNearOne = 1 - Machine<A>::kEpsilon / 2;
  switch (p.drawn) {
    case Drawn::kUniform:
    case Drawn::kNormal:
      return fma(value, b, a);
    case Drawn::kLogNormal:
      return fast_exp(fma(value, b, a));
    case Drawn::kExponential:
      return A(-1) / a * (value >= kNearOne ? -Machine<A>::kEpsilon / 2 : fast_log(value));
    case Drawn::kCauchy:
      return cauchy(value, a, b);
    case Drawn::kGeometric:
      return ceil(fast_log(value) / log1p(-a));
    default:
      return value < a;
  }
}

// PyTorch's interval is half open the other way round: what is rounded to its end becomes its begin.
template <typename T, typename A>
__device__ __forceinline__ void put_real(const RandomParams& p, int64_t i, A value) {
  T result = Convert<T>::from(static_cast<decltype(to_float(T{}))>(value));
  if (p.drawn == Drawn::kUniform) {
    const T begin = Convert<T>::from(static_cast<decltype(to_float(T{}))>(p.a));
    const T end = Convert<T>::from(static_cast<decltype(to_float(T{}))>(p.end));
    if (to_float(result) == to_float(end)) result = begin;
  }
  static_cast<T*>(p.to)[i] = result;
}

template <typename T, typename V>
__device__ __forceinline__ void put_whole(const RandomParams& p, int64_t i, V value) {
  static_cast<T*>(p.to)[i] = static_cast<T>(value);
}

template <typename V>
__device__ __forceinline__ void put(const RandomParams& p, int64_t i, V value) {
  switch (p.cell) {
    case Cell::kFloat:
      return put_real<float>(p, i, value);
    case Cell::kDouble:
      return put_real<double>(p, i, value);
    case Cell::kHalf:
      return put_real<f16>(p, i, value);
    case Cell::kBFloat16:
      return put_real<bf16>(p, i, value);
    case Cell::kByte:
      return put_whole<unsigned char>(p, i, value);
    case Cell::kChar:
      return put_whole<signed char>(p, i, value);
    case Cell::kShort:
      return put_whole<short>(p, i, value);
    case Cell::kInt:
      return put_whole<int>(p, i, value);
    case Cell::kLong:
      return put_whole<int64_t>(p, i, value);
    default:
      return put_whole<bool>(p, i, value);
  }
}

struct Spread {
  int64_t threads, thread;
  __device__ __forceinline__ Spread()
      : threads(int64_t(gridDim.x) * kRandomThreads), thread(int64_t(blockIdx.x) * kRandomThreads + threadIdx.x) {}
};

__device__ __forceinline__ bool is_of_normals(Drawn drawn) { return drawn == Drawn::kNormal || drawn == Drawn::kLogNormal; }

__device__ __forceinline__ void random_f32(const RandomParams& p) {
  const Spread grid;
  unsigned long long offset = p.offset;
  for (int64_t i = grid.thread; i < p.size; i += 4 * grid.threads, offset += 4) {
    const uint4 bits = philox(p.seed, grid.thread, offset);
    float value[4] = {uniform_of(bits.x), uniform_of(bits.y), uniform_of(bits.z), uniform_of(bits.w)};
    if (is_of_normals(p.drawn)) {
      const float2 first = normals_of(bits.x, bits.y), second = normals_of(bits.z, bits.w);
      value[0] = first.x, value[1] = first.y, value[2] = second.x, value[3] = second.y;
    }
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const int64_t at = i + u * grid.threads;
      if (at < p.size) put(p, at, transformed(p, value[u]));
    }
  }
}

__device__ __forceinline__ void random_f64(const RandomParams& p) {
  const Spread grid;
  unsigned long long offset = p.offset;
  for (int64_t i = grid.thread; i < p.size; i += 2 * grid.threads, offset += 4) {
    const uint4 bits = philox(p.seed, grid.thread, offset);
    double value[2] = {uniform_of(bits.x, bits.y), uniform_of(bits.z, bits.w)};
    if (is_of_normals(p.drawn)) {
      const double2 pair = normals_of(bits);
      value[0] = pair.x, value[1] = pair.y;
    }
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      const int64_t at = i + u * grid.threads;
      if (at < p.size) put(p, at, transformed(p, value[u]));
    }
  }
}

__device__ __forceinline__ int64_t whole_of(const RandomParams& p, unsigned long long bits) {
  return static_cast<int64_t>((p.range ? bits % p.range : bits) + static_cast<unsigned long long>(p.base));
}

__device__ __forceinline__ void random_bits(const RandomParams& p) {
  const Spread grid;
  unsigned long long offset = p.offset;
  const int parts = p.wide ? 2 : 4;
  for (int64_t i = grid.thread; i < p.size; i += parts * grid.threads, offset += 4) {
    const uint4 bits = philox(p.seed, grid.thread, offset);
    const unsigned long long first = static_cast<unsigned long long>(bits.x) << 32 | bits.y;
    const unsigned long long second = static_cast<unsigned long long>(bits.z) << 32 | bits.w;
    put(p, i, whole_of(p, p.wide ? first : bits.x));
    if (i + grid.threads < p.size) put(p, i + grid.threads, whole_of(p, p.wide ? second : bits.y));
    if (p.wide) continue;
    if (i + 2 * grid.threads < p.size) put(p, i + 2 * grid.threads, whole_of(p, bits.z));
    if (i + 3 * grid.threads < p.size) put(p, i + 3 * grid.threads, whole_of(p, bits.w));
  }
}

template <typename A>
__device__ __forceinline__ void random_chances(const ChancesParams& p) {
  const Spread grid;
  const uint4 bits = philox(p.seed, grid.thread, p.offset);
  const float value[4] = {uniform_of(bits.x), uniform_of(bits.y), uniform_of(bits.z), uniform_of(bits.w)};
  RandomParams whole{};
  whole.to = p.to, whole.cell = p.cell, whole.drawn = Drawn::kBernoulli;
#pragma unroll
  for (int u = 0; u < 4; ++u) {
    const int64_t i = 4 * grid.thread + u;
    if (i >= p.size) return;
    const A chance = static_cast<const A*>(p.chances)[i];
    if (!(chance >= 0 && chance <= 1)) __trap();
    put(whole, i, static_cast<float>(value[u] <= chance));
  }
}

template <typename T, int width>
struct alignas(width * sizeof(T)) Beside {
  T at[width];
};

template <typename A>
struct Dropout {
  A keep, scale;
  __device__ __forceinline__ explicit Dropout(const DropoutParams& p)
      : keep(sizeof(A) == 8 ? static_cast<A>(p.wide_keep) : static_cast<A>(p.keep)),
        scale(sizeof(A) == 8 ? static_cast<A>(p.wide_scale) : static_cast<A>(p.scale)) {}
  template <typename T>
  __device__ __forceinline__ bool apply(unsigned bits, T& x) const {
    const bool kept = uniform_of(bits) < keep;
    x = Convert<T>::from(to_float(x) * static_cast<A>(kept) * scale);
    return kept;
  }
};

// Two at a time leave the other two of their numbers unused, as PyTorch's kernel does.
template <int width, typename T>
__device__ __forceinline__ void dropout_side_by_side(const DropoutParams& p) {
  const Dropout<decltype(to_float(T{}))> dropout(p);
  const Spread grid;
  unsigned long long offset = p.offset;
  for (int64_t i = grid.thread; i < p.size / width; i += grid.threads) {
    auto x = static_cast<const Beside<T, width>*>(p.from)[i];
    Beside<unsigned char, width> kept;
#pragma unroll
    for (int u = 0; u < width; u += 4, offset += 4) {
      const uint4 bits = philox(p.seed, grid.thread, offset);
      kept.at[u] = dropout.apply(bits.x, x.at[u]), kept.at[u + 1] = dropout.apply(bits.y, x.at[u + 1]);
      if constexpr (width > 2) {
        kept.at[u + 2] = dropout.apply(bits.z, x.at[u + 2]), kept.at[u + 3] = dropout.apply(bits.w, x.at[u + 3]);
      }
    }
    static_cast<Beside<T, width>*>(p.to)[i] = x;
    reinterpret_cast<Beside<unsigned char, width>*>(p.mask)[i] = kept;
  }
}

template <typename T>
__device__ __forceinline__ void dropout_apart(const DropoutParams& p) {
  const Dropout<decltype(to_float(T{}))> dropout(p);
  const Spread grid;
  unsigned long long offset = p.offset;
  for (int64_t i = grid.thread; i < p.size; i += 4 * grid.threads, offset += 4) {
    const uint4 bits = philox(p.seed, grid.thread, offset);
    const unsigned drawn[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const int64_t at = i + u * grid.threads;
      if (at >= p.size) return;
      T x = static_cast<const T*>(p.from)[at];
      p.mask[at] = dropout.apply(drawn[u], x);
      static_cast<T*>(p.to)[at] = x;
    }
  }
}

template <typename T>
__device__ __forceinline__ void random_dropout(const DropoutParams& p) {
  switch (p.width) {
    case 8:
      if constexpr (sizeof(T) == 2) dropout_side_by_side<8, T>(p);
      return;
    case 4:
      return dropout_side_by_side<4, T>(p);
    case 2:
      return dropout_side_by_side<2, T>(p);
    default:
      return dropout_apart<T>(p);
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_random_f32, 256, RandomParams, random_f32)
BC_ENTRY(compat_random_f64, 256, RandomParams, random_f64)
BC_ENTRY(compat_random_bits, 256, RandomParams, random_bits)
BC_ENTRY(compat_random_chances_f32, 256, ChancesParams, random_chances<float>)
BC_ENTRY(compat_random_chances_f64, 256, ChancesParams, random_chances<double>)
BC_ENTRY(compat_random_dropout_f32, 256, DropoutParams, random_dropout<float>)
BC_ENTRY(compat_random_dropout_f16, 256, DropoutParams, random_dropout<f16>)
BC_ENTRY(compat_random_dropout_bf16, 256, DropoutParams, random_dropout<bf16>)
BC_ENTRY(compat_random_dropout_f64, 256, DropoutParams, random_dropout<double>)
