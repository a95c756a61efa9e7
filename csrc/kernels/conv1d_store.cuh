// Which taps an output takes, and what becomes of its sum.
#pragma once
#include "kernels/conv1d.cuh"
#include "kernels/gemm_store.cuh"

namespace blackwell_compat {

__device__ __forceinline__ int divided_up(int a, int b) { return (a + b - 1) / b; }

// The taps of a phase, in the order of the positions that they read. Tap i is `first + i * every` of the weight.
struct PhaseTaps {
  int count, first, every;
  int64_t base;

  __device__ PhaseTaps(const Conv1dParams& p, int phase) : count(p.kernel), first(0), every(1), base(-p.padding) {
    if (!p.transposed) return;
    const int64_t offset = phase + p.padding;
    const int lowest = static_cast<int>(offset / p.common % p.cycle * p.inverse % p.cycle);
    count = offset % p.common == 0 && lowest < p.kernel ? divided_up(p.kernel - lowest, p.cycle) : 0;
    first = lowest + (count - 1) * p.cycle;
    every = -p.cycle;
    base = (offset - int64_t(first) * p.dilation) / p.phases;
  }
};

// The end of a sum: bias, activation, residual, rounding.
template <typename T, typename A>
__device__ __forceinline__ void store_conv1d_result(const Conv1dParams& p, int64_t batch, int64_t channel, int64_t position,
                                                    A value) {
  if (p.bias) value += to_float(static_cast<const T*>(p.bias)[channel * p.bias_stride]);
  value = activated(value, p.activation, p.slope);
  if (p.residual) {
    value += to_float(static_cast<const T*>(
        p.residual)[batch * p.residual_batch + channel * p.residual_channel + position * p.residual_position]);
  }
  static_cast<T*>(p.out)[batch * p.out_batch + channel * p.out_channel + position * p.out_position] = Convert<T>::from(value);
}

// A sum over all taps and channels, or over the part of them that `split` has.
template <typename T, typename A>
__device__ __forceinline__ void store_conv1d_sum(const Conv1dParams& p, unsigned split, int64_t batch, int64_t channel,
                                                 int64_t position, A value) {
  if (p.partial) {
    const int64_t at = batch * p.out_batch + channel * p.out_channel + position * p.out_position;
    static_cast<A*>(p.partial)[int64_t(split) * p.batch * p.out_batch + at] = value;
  } else {
    store_conv1d_result<T>(p, batch, channel, position, value);
  }
}

// Adds the parts of a split sum, always in the same order.
template <typename T>
__device__ __forceinline__ void conv1d_reduce(const Conv1dParams& p) {
  using A = typename Accumulator<T>::type;
  const int64_t results = p.batch * p.out_batch, i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= results) return;
  A sum = 0;
  for (unsigned split = 0; split < p.splits; ++split) sum += static_cast<const A*>(p.partial)[split * results + i];
  const int64_t in_sample = i % p.out_batch, channels = int64_t(p.groups) * p.out_channels;
  const bool along = p.out_position == 1;
  store_conv1d_result<T>(p, i / p.out_batch, along ? in_sample / p.out_length : in_sample % channels,
                         along ? in_sample % p.out_length : in_sample / channels, sum);
}

}  // namespace blackwell_compat
