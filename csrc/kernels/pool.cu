// pool: a thread for each value; a gradient gathers from the windows that it lies in.
#include "kernels/gemm_store.cuh"
#include "kernels/platform.cuh"
#include "kernels/pool.cuh"

namespace blackwell_compat {

// A window along one axis: what of it lies in the volume, in steps, and its size with the padding
struct Window {
  int begin, end, step, whole;

  __device__ Window(const PoolParams& p, int axis, int results, int position) {
    const int64_t size = p.volume[axis];
    if (p.adaptive) {
      begin = static_cast<int>(position * size / results);
      end = static_cast<int>(((position + 1) * size + results - 1) / results);
      step = 1, whole = end - begin;
      return;
    }
    const int first = position * p.stride[axis] - p.padding[axis], reach = p.kernel[axis] * p.dilation[axis];
    step = p.dilation[axis];
    whole = min(first + p.kernel[axis], p.volume[axis] + p.padding[axis]) - first;
    begin = first < 0 ? first + (step - 1 - first) / step * step : first;
    end = min(first + reach, p.volume[axis]);
  }
};

// The windows along one axis that a place of the volume may lie in
struct Readers {
  int first, last;

  __device__ Readers(const PoolParams& p, int axis, int results, int place) {
    if (p.adaptive) {
      const int64_t size = p.volume[axis];
      first = static_cast<int>(int64_t(place) * results / size);
      last = static_cast<int>((int64_t(place + 1) * results - 1) / size);
      return;
    }
    const int behind = place + p.padding[axis] - (p.kernel[axis] - 1) * p.dilation[axis] - 1;
    first = behind < 0 ? 0 : behind / p.stride[axis] + 1;
    last = min((place + p.padding[axis]) / p.stride[axis], results - 1);
  }
};

template <typename A>
__device__ __forceinline__ A divisor_of(const PoolParams& p, const Window& planes, const Window& rows, const Window& columns) {
  if (p.divisor != 0) return static_cast<A>(p.divisor);
  if (p.counts_padding) return A(int64_t(planes.whole) * rows.whole * columns.whole);
  return A(int64_t(planes.end - planes.begin) * (rows.end - rows.begin) * (columns.end - columns.begin));
}

// make(first element of the volume of `in`, its index, place in `out`, index there) of each thread's place
template <typename T, class Make>
__device__ __forceinline__ void each_pooled(const PoolParams& p, Make make) {
  const int64_t i = int64_t(blockIdx.x) * kPoolThreads + threadIdx.x;
  if (i >= p.results) return;
  int64_t rest = i;
  int channel = 0, place[3];
  if (p.channels_last) channel = static_cast<int>(rest % p.channels), rest /= p.channels;
#pragma unroll
  for (int d = 2; d >= 0; --d) place[d] = static_cast<int>(rest % p.out_size[d]), rest /= p.out_size[d];
  if (!p.channels_last) channel = static_cast<int>(rest % p.channels), rest /= p.channels;
  make(rest * p.in_batch + channel * p.in_channel, place, i);
}

template <typename T>
__device__ __forceinline__ void pool_mean(const PoolParams& p) {
  using A = typename Accumulator<T>::type;
  each_pooled<T>(p, [&](int64_t from, const int (&place)[3], int64_t i) {
    const T* const volume = static_cast<const T*>(p.in) + from;
    const Window planes(p, 0, p.out_size[0], place[0]), rows(p, 1, p.out_size[1], place[1]),
        columns(p, 2, p.out_size[2], place[2]);
    A sum = 0;
    for (int z = planes.begin; z < planes.end; ++z) {
      for (int y = rows.begin; y < rows.end; ++y) {
        for (int x = columns.begin; x < columns.end; ++x) {
          sum += to_float(volume[z * p.in_axis[0] + y * p.in_axis[1] + x * p.in_axis[2]]);
        }
      }
    }
    static_cast<T*>(p.out)[i] = Convert<T>::from(sum / divisor_of<A>(p, planes, rows, columns));
  });
}

// The first of equal maxima, and the last of the places without a number
template <typename T>
__device__ __forceinline__ void pool_max(const PoolParams& p) {
  each_pooled<T>(p, [&](int64_t from, const int (&place)[3], int64_t i) {
    const T* const volume = static_cast<const T*>(p.in) + from;
    const Window planes(p, 0, p.out_size[0], place[0]), rows(p, 1, p.out_size[1], place[1]),
        columns(p, 2, p.out_size[2], place[2]);
    T most = volume[planes.begin * p.in_axis[0] + rows.begin * p.in_axis[1] + columns.begin * p.in_axis[2]];
    int64_t of_most = -1;
    for (int z = planes.begin; z < planes.end; z += planes.step) {
      for (int y = rows.begin; y < rows.end; y += rows.step) {
        for (int x = columns.begin; x < columns.end; x += columns.step) {
          const T value = volume[z * p.in_axis[0] + y * p.in_axis[1] + x * p.in_axis[2]];
          const auto compared = to_float(value);
          if (of_most < 0 || compared > to_float(most) || compared != compared) {
            most = value, of_most = (int64_t(z) * p.volume[1] + y) * p.volume[2] + x;
          }
        }
      }
    }
    static_cast<T*>(p.out)[i] = most, p.places[i] = of_most;
  });
}

// `in` is the gradient of a result, `out` that of its volume. part(windows, index of the window's gradient) is what it gets.
template <typename T, class Part>
__device__ __forceinline__ void pool_grad(const PoolParams& p, Part part) {
  using A = typename Accumulator<T>::type;
  each_pooled<T>(p, [&](int64_t from, const int (&place)[3], int64_t i) {
    const Readers planes(p, 0, p.in_size[0], place[0]), rows(p, 1, p.in_size[1], place[1]), columns(p, 2, p.in_size[2], place[2]);
    A sum = 0;
    for (int z = planes.first; z <= planes.last; ++z) {
      for (int y = rows.first; y <= rows.last; ++y) {
        for (int x = columns.first; x <= columns.last; ++x) {
          sum += part(from + z * p.in_axis[0] + y * p.in_axis[1] + x * p.in_axis[2], z, y, x, place);
        }
      }
    }
    static_cast<T*>(p.out)[i] = Convert<T>::from(sum);
  });
}

template <typename T>
__device__ __forceinline__ void pool_mean_grad(const PoolParams& p) {
  using A = typename Accumulator<T>::type;
  pool_grad<T>(p, [&](int64_t at, int z, int y, int x, const int (&)[3]) {
    const Window planes(p, 0, p.in_size[0], z), rows(p, 1, p.in_size[1], y), columns(p, 2, p.in_size[2], x);
    return A(to_float(static_cast<const T*>(p.in)[at])) / divisor_of<A>(p, planes, rows, columns);
  });
}

// `places` have the gradient's strides.
template <typename T>
__device__ __forceinline__ void pool_max_grad(const PoolParams& p) {
  using A = typename Accumulator<T>::type;
  pool_grad<T>(p, [&](int64_t at, int, int, int, const int (&place)[3]) {
    const int64_t own = (int64_t(place[0]) * p.volume[1] + place[1]) * p.volume[2] + place[2];
    return p.places[at] == own ? A(to_float(static_cast<const T*>(p.in)[at])) : A(0);
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
BC_ENTRY(compat_pool_max_f32, 256, PoolParams, pool_max<float>)
BC_ENTRY(compat_pool_max_f16, 256, PoolParams, pool_max<f16>)
BC_ENTRY(compat_pool_max_bf16, 256, PoolParams, pool_max<bf16>)
BC_ENTRY(compat_pool_max_f64, 256, PoolParams, pool_max<double>)
BC_ENTRY(compat_pool_max_grad_f32, 256, PoolParams, pool_max_grad<float>)
BC_ENTRY(compat_pool_max_grad_f16, 256, PoolParams, pool_max_grad<f16>)
BC_ENTRY(compat_pool_max_grad_bf16, 256, PoolParams, pool_max_grad<bf16>)
BC_ENTRY(compat_pool_max_grad_f64, 256, PoolParams, pool_max_grad<double>)
