// upsample: a thread for 16 bytes of the result; a gradient gathers what reads it.
#include "kernels/gemm_store.cuh"
#include "kernels/platform.cuh"
#include "kernels/upsample.cuh"

namespace blackwell_compat {

__device__ __forceinline__ float floor_of(float x) { return floorf(x); }
__device__ __forceinline__ double floor_of(double x) { return floor(x); }

// What a position of the result reads along one axis
template <typename A>
struct Reads {
  int low, high;
  A of_high;  // its weight

  __device__ Reads(Between between, double exact_scale, int image, int result, int position) : of_high(0) {
    if (between == Between::kNearest || between == Between::kExact) {
      const float scale = static_cast<float>(exact_scale);
      low = static_cast<int>(floorf((position + (between == Between::kExact ? 0.5f : 0.0f)) * scale));
      if (between == Between::kNearest && result == image) low = position;
      if (between == Between::kNearest && result == 2 * image) low = position / 2;
      high = low = min(low, image - 1);
      return;
    }
    const A scale = static_cast<A>(exact_scale);
    A at = between == Between::kCorners ? scale * position : scale * (position + A(0.5)) - A(0.5);
    if (at < 0) at = 0;
    if (result == image) at = position;
    low = min(static_cast<int>(floor_of(at)), image - 1);
    of_high = min(max(at - low, A(0)), A(1));
    high = min(low + 1, image - 1);
  }

  __device__ __forceinline__ A weight(int of) const { return (low == of ? 1 - of_high : A(0)) + (high == of ? of_high : A(0)); }
};

// result(batch, channel, row, column) of each of a thread's places in `out`, of which there are kPiece or one
template <typename T, int kPiece, class Result>
__device__ __forceinline__ void each_result(const UpsampleParams& p, Result result) {
  const int64_t first = (int64_t(blockIdx.x) * kUpsampleThreads + threadIdx.x) * p.piece;
  if (first >= p.results) return;
  int64_t i = first;
  int place[3];  // row, column, channel
  const int order[3] = {p.channels_last ? p.channels : p.out_size[1], p.channels_last ? p.out_size[1] : p.out_size[0],
                        p.channels_last ? p.out_size[0] : p.channels};
#pragma unroll
  for (int d = 0; d < 3; ++d) place[d] = static_cast<int>(i % order[d]), i /= order[d];
  union {
    uint4 whole;
    T element[16 / sizeof(T)];
  } made;
#pragma unroll
  for (int e = 0; e < kPiece; ++e) {
    if (e > 0 && e >= p.piece) break;
    made.element[e] = Convert<T>::from(p.channels_last ? result(i, place[0] + e, place[2], place[1])
                                                       : result(i, place[2], place[1], place[0] + e));
  }
  T* const out = static_cast<T*>(p.out) + first;
  if (kPiece == 1 || p.piece == 1) {
    *out = made.element[0];
  } else {
    *reinterpret_cast<uint4*>(out) = made.whole;
  }
}

template <typename T>
__device__ __forceinline__ void upsample(const UpsampleParams& p) {
  using A = typename Accumulator<T>::type;
  each_result<T, 16 / sizeof(T)>(p, [&](int64_t batch, int channel, int row, int column) {
    const Reads<A> rows(p.between, p.scale[0], p.in_size[0], p.out_size[0], row);
    const Reads<A> columns(p.between, p.scale[1], p.in_size[1], p.out_size[1], column);
    const T* const image = static_cast<const T*>(p.in) + batch * p.in_batch + channel * p.in_channel;
    const auto at = [&](int y, int x) { return A(to_float(image[y * p.in_axis[0] + x * p.in_axis[1]])); };
    if (p.between == Between::kNearest || p.between == Between::kExact) return at(rows.low, columns.low);
    const A upper = (1 - columns.of_high) * at(rows.low, columns.low) + columns.of_high * at(rows.low, columns.high);
    const A lower = (1 - columns.of_high) * at(rows.high, columns.low) + columns.of_high * at(rows.high, columns.high);
    return (1 - rows.of_high) * upper + rows.of_high * lower;
  });
}

// What a position of the result reads along one axis, bicubic: four values, from the one before `first` on
template <typename A>
struct CubicReads {
  int first;
  A weight[4];

  __device__ CubicReads(Between between, double exact_scale, int position) {
    constexpr A kBend = A(-0.75);
    const A scale = static_cast<A>(exact_scale);
    const A at = between == Between::kCorners ? scale * position : scale * (position + A(0.5)) - A(0.5);
    first = static_cast<int>(floor_of(at));
    const A right = min(max(at - first, A(0)), A(1)), left = 1 - right;
    const auto near = [&](A x) { return ((kBend + 2) * x - (kBend + 3)) * x * x + 1; };
    const auto far = [&](A x) { return ((kBend * x - 5 * kBend) * x + 8 * kBend) * x - 4 * kBend; };
    weight[0] = far(right + 1), weight[1] = near(right), weight[2] = near(left), weight[3] = far(left + 1);
  }
};

template <typename T>
__device__ __forceinline__ void upsample_cubic(const UpsampleParams& p) {
  using A = typename Accumulator<T>::type;
  each_result<T, 1>(p, [&](int64_t batch, int channel, int row, int column) {
    const CubicReads<A> rows(p.between, p.scale[0], row), columns(p.between, p.scale[1], column);
    const T* const image = static_cast<const T*>(p.in) + batch * p.in_batch + channel * p.in_channel;
    A sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int y = min(max(rows.first - 1 + i, 0), p.in_size[0] - 1);
      A part = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int x = min(max(columns.first - 1 + j, 0), p.in_size[1] - 1);
        part += columns.weight[j] * A(to_float(image[y * p.in_axis[0] + x * p.in_axis[1]]));
      }
      sum += rows.weight[i] * part;
    }
    return sum;
  });
}

// The first position of a result that may read `place` of the image
template <typename A>
__device__ __forceinline__ int first_reader(const UpsampleParams& p, int axis, int place) {
  const double scale = p.scale[axis];
  int first = scale > 0 ? max(0, static_cast<int>(min((place - 1) / static_cast<float>(scale), 1e9f)) - 2) : 0;
  while (first < p.in_size[axis] && Reads<A>(p.between, scale, p.out_size[axis], p.in_size[axis], first).high < place) ++first;
  return first;
}

// `in` is the gradient of a result, `out` that of its image.
template <typename T>
__device__ __forceinline__ void upsample_grad(const UpsampleParams& p) {
  using A = typename Accumulator<T>::type;
  each_result<T, 1>(p, [&](int64_t batch, int channel, int row, int column) {
    const T* const grad = static_cast<const T*>(p.in) + batch * p.in_batch + channel * p.in_channel;
    const int first = first_reader<A>(p, 1, column);
    A sum = 0;
    for (int y = first_reader<A>(p, 0, row); y < p.in_size[0]; ++y) {
      const Reads<A> rows(p.between, p.scale[0], p.out_size[0], p.in_size[0], y);
      if (rows.low > row) break;
      A part = 0;
      for (int x = first; x < p.in_size[1]; ++x) {
        const Reads<A> columns(p.between, p.scale[1], p.out_size[1], p.in_size[1], x);
        if (columns.low > column) break;
        part += columns.weight(column) * A(to_float(grad[y * p.in_axis[0] + x * p.in_axis[1]]));
      }
      sum += rows.weight(row) * part;
    }
    return sum;
  });
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_upsample_f32, 256, UpsampleParams, upsample<float>)
BC_ENTRY(compat_upsample_f16, 256, UpsampleParams, upsample<f16>)
BC_ENTRY(compat_upsample_bf16, 256, UpsampleParams, upsample<bf16>)
BC_ENTRY(compat_upsample_f64, 256, UpsampleParams, upsample<double>)
BC_ENTRY(compat_upsample_cubic_f32, 256, UpsampleParams, upsample_cubic<float>)
BC_ENTRY(compat_upsample_cubic_f16, 256, UpsampleParams, upsample_cubic<f16>)
BC_ENTRY(compat_upsample_cubic_bf16, 256, UpsampleParams, upsample_cubic<bf16>)
BC_ENTRY(compat_upsample_cubic_f64, 256, UpsampleParams, upsample_cubic<double>)
BC_ENTRY(compat_upsample_grad_f32, 256, UpsampleParams, upsample_grad<float>)
BC_ENTRY(compat_upsample_grad_f16, 256, UpsampleParams, upsample_grad<f16>)
BC_ENTRY(compat_upsample_grad_bf16, 256, UpsampleParams, upsample_grad<bf16>)
BC_ENTRY(compat_upsample_grad_f64, 256, UpsampleParams, upsample_grad<double>)
