// pool: a thread for each value; a gradient gathers from the windows that it lies in.
#include "kernels/gemm_store.cuh"
#include "kernels/platform.cuh"
#include "kernels/pool.cuh"

namespace blackwell_compat {

// A window along one axis: what of it lies in the image, and its size with the padding
struct Window {
  int begin, end, whole;

  __device__ Window(const PoolParams& p, int axis, int position) {
    const int first = position * p.stride[axis] - p.padding[axis], size = p.image[axis];
    whole = min(first + p.kernel[axis], size + p.padding[axis]) - first;
    begin = max(first, 0), end = min(first + p.kernel[axis], size);
  }
};

template <typename A>
__device__ __forceinline__ A divisor_of(const PoolParams& p, const Window& rows, const Window& columns) {
  if (p.divisor != 0) return static_cast<A>(p.divisor);
  return A(p.counts_padding ? rows.whole * columns.whole : (rows.end - rows.begin) * (columns.end - columns.begin));
}

// value(image of `in`, row, column) of a thread's place in `out`
template <typename T, class Value>
__device__ __forceinline__ void each_pooled(const PoolParams& p, Value value) {
  const int64_t i = int64_t(blockIdx.x) * kPoolThreads + threadIdx.x;
  if (i >= p.results) return;
  int64_t rest = i;
  int channel = 0;
  if (p.channels_last) channel = static_cast<int>(rest % p.channels), rest /= p.channels;
  const int column = static_cast<int>(rest % p.out_size[1]);
  rest /= p.out_size[1];
  const int row = static_cast<int>(rest % p.out_size[0]);
  rest /= p.out_size[0];
  if (!p.channels_last) channel = static_cast<int>(rest % p.channels), rest /= p.channels;
  const T* const in = static_cast<const T*>(p.in) + rest * p.in_batch + channel * p.in_channel;
  static_cast<T*>(p.out)[i] = Convert<T>::from(value(in, row, column));
}

template <typename T>
__device__ __forceinline__ void pool_mean(const PoolParams& p) {
  using A = typename Accumulator<T>::type;
  each_pooled<T>(p, [&](const T* image, int row, int column) {
    const Window rows(p, 0, row), columns(p, 1, column);
    A sum = 0;
    for (int y = rows.begin; y < rows.end; ++y) {
      for (int x = columns.begin; x < columns.end; ++x) sum += to_float(image[y * p.in_axis[0] + x * p.in_axis[1]]);
    }
    return sum / divisor_of<A>(p, rows, columns);
  });
}

// `in` is the gradient of a result, `out` that of its image.
template <typename T>
__device__ __forceinline__ void pool_mean_grad(const PoolParams& p) {
  using A = typename Accumulator<T>::type;
  each_pooled<T>(p, [&](const T* grad, int row, int column) {
    const auto first = [&](int axis, int place) {
      const int behind = place + p.padding[axis] - p.kernel[axis];
      return behind < 0 ? 0 : behind / p.stride[axis] + 1;
    };
    const int last_row = min((row + p.padding[0]) / p.stride[0], p.in_size[0] - 1);
    const int last_column = min((column + p.padding[1]) / p.stride[1], p.in_size[1] - 1);
    A sum = 0;
    for (int y = first(0, row); y <= last_row; ++y) {
      for (int x = first(1, column); x <= last_column; ++x) {
        const A divisor = divisor_of<A>(p, Window(p, 0, y), Window(p, 1, x));
        sum += A(to_float(grad[y * p.in_axis[0] + x * p.in_axis[1]])) / divisor;
      }
    }
    return sum;
  });
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_pool_mean_f32, 256, PoolParams, pool_mean<float>)
BC_ENTRY(compat_pool_mean_f16, 256, PoolParams, pool_mean<f16>)
BC_ENTRY(compat_pool_mean_bf16, 256, PoolParams, pool_mean<bf16>)
BC_ENTRY(compat_pool_mean_f64, 256, PoolParams, pool_mean<double>)
BC_ENTRY(compat_pool_mean_grad_f32, 256, PoolParams, pool_mean_grad<float>)
BC_ENTRY(compat_pool_mean_grad_f16, 256, PoolParams, pool_mean_grad<f16>)
BC_ENTRY(compat_pool_mean_grad_bf16, 256, PoolParams, pool_mean_grad<bf16>)
BC_ENTRY(compat_pool_mean_grad_f64, 256, PoolParams, pool_mean_grad<double>)
