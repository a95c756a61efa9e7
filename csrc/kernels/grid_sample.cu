// grid_sample: a thread for each value of the result.
#include "kernels/gemm_store.cuh"
#include "kernels/grid_sample.cuh"
#include "kernels/platform.cuh"

namespace blackwell_compat {

__device__ __forceinline__ float floor_of(float x) { return floorf(x); }
__device__ __forceinline__ double floor_of(double x) { return floor(x); }
__device__ __forceinline__ float to_even(float x) { return rintf(x); }
__device__ __forceinline__ double to_even(double x) { return rint(x); }
__device__ __forceinline__ float rest_of(float x, float y) { return fmodf(x, y); }
__device__ __forceinline__ double rest_of(double x, double y) { return fmod(x, y); }

// Mirrored at both ends, which are given twofold
template <typename A>
__device__ __forceinline__ A reflected(A x, int twice_low, int twice_high) {
  if (twice_low == twice_high) return 0;
  const A low = A(twice_low) / 2, span = A(twice_high - twice_low) / 2;
  x = x - low < 0 ? low - x : x - low;
  const A rest = rest_of(x, span);
  return rest_of(floor_of(x / span), A(2)) == 0 ? rest + low : span - rest + low;
}

// A position in steps of the image; far outside of it where there is none
template <typename A>
__device__ __forceinline__ A position_of(const GridSampleParams& p, A given, int size) {
  A at = p.corners ? (given + 1) / 2 * (size - 1) : ((given + 1) * size - 1) / 2;
  if (p.outside == Outside::kReflection) at = p.corners ? reflected(at, 0, 2 * (size - 1)) : reflected(at, -1, 2 * size - 1);
  if (p.outside != Outside::kZeros) at = at > 0 ? (at < size - 1 ? at : A(size - 1)) : A(0);
  return at > A(-100) && at < A(1 << 30) ? at : A(-100);
}

template <typename T>
__device__ __forceinline__ void grid_sample(const GridSampleParams& p) {
  using A = typename Accumulator<T>::type;
  const int64_t i = int64_t(blockIdx.x) * kGridSampleThreads + threadIdx.x;
  if (i >= p.results) return;
  const int64_t column = i % p.out_size[1], row = i / p.out_size[1] % p.out_size[0], images = i / p.out_size[1] / p.out_size[0];
  const int64_t channel = images % p.channels, batch = images / p.channels;
  const T* const grid = static_cast<const T*>(p.grid) + batch * p.grid_batch + row * p.grid_axis[0] + column * p.grid_axis[1];
  const T* const image = static_cast<const T*>(p.in) + batch * p.in_batch + channel * p.in_channel;
  const A x = position_of(p, A(to_float(grid[0])), p.in_size[1]),
          y = position_of(p, A(to_float(grid[p.grid_part])), p.in_size[0]);
  const auto value = [&](int at_y, int at_x) {
    const bool inside = at_y >= 0 && at_y < p.in_size[0] && at_x >= 0 && at_x < p.in_size[1];
    return inside ? A(to_float(image[at_y * p.in_axis[0] + at_x * p.in_axis[1]])) : A(0);
  };
  A result;
  if (p.nearest) {
    result = value(static_cast<int>(to_even(y)), static_cast<int>(to_even(x)));
  } else {
    const int low_x = static_cast<int>(floor_of(x)), low_y = static_cast<int>(floor_of(y));
    const A right = x - low_x, lower = y - low_y;
    result = value(low_y, low_x) * (1 - right) * (1 - lower) + value(low_y, low_x + 1) * right * (1 - lower) +
             value(low_y + 1, low_x) * (1 - right) * lower + value(low_y + 1, low_x + 1) * right * lower;
  }
  static_cast<T*>(p.out)[i] = Convert<T>::from(result);
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_grid_sample_f32, 256, GridSampleParams, grid_sample<float>)
BC_ENTRY(compat_grid_sample_f16, 256, GridSampleParams, grid_sample<f16>)
BC_ENTRY(compat_grid_sample_bf16, 256, GridSampleParams, grid_sample<bf16>)
BC_ENTRY(compat_grid_sample_f64, 256, GridSampleParams, grid_sample<double>)
