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

// Where the sums of a tile go: row `row` is position (first_row + row) * phases + phase. Neighbours in the result are positions
// of a channel, or channels of a position.
template <typename T, typename A>
class Conv1dEnd {
 public:
  static constexpr int kCount = Vector<T>::kCount;

  __device__ Conv1dEnd(const Conv1dParams& p, unsigned split, int batch, int group, int phase, int64_t first_row, int first_out)
      : p_(p),
        first_channel_(int64_t(group) * p.out_channels + first_out),
        channels_(p.out_channels - first_out),
        first_position_(first_row * p.phases + phase),
        along_(p.out_position == 1),
        out_(static_cast<T*>(p.out) + batch * p.out_batch),
        partial_(static_cast<A*>(p.partial) + (int64_t(split) * p.batch + batch) * p.out_batch),
        residual_(static_cast<const T*>(p.residual) + batch * p.residual_batch),
        residual_vectors_(p.residual_channel == p.out_channel && p.residual_position == p.out_position && is_aligned(residual_)),
        vectors((along_ ? p.phases == 1 && p.out_length % kCount == 0 : p.out_channels % kCount == 0) && is_aligned(out_)) {}

  __device__ bool activates() const { return p_.activation && !p_.partial; }

  __device__ __forceinline__ A finished(int, int column, A value) const {
    if (p_.partial || column >= channels_) return value;
    return activated(value + bias(column), p_.activation, p_.slope);
  }

  __device__ __forceinline__ void store(int row, int column, A value) const {
    const int64_t position = first_position_ + int64_t(row) * p_.phases;
    if (position >= p_.out_length || column >= channels_) return;
    const int64_t at = (first_channel_ + column) * p_.out_channel + position * p_.out_position;
    if (p_.partial) {
      partial_[at] = value;
    } else {
      if (p_.residual) value += to_float(residual_[residual_at(position, column)]);
      out_[at] = Convert<T>::from(value);
    }
  }

  __device__ __forceinline__ void store_vector(int row, int column, A (&values)[kCount]) const {
    const int64_t position = first_position_ + int64_t(row) * p_.phases;
    if (position >= p_.out_length || column >= channels_) return;
    const int64_t at = (first_channel_ + column) * p_.out_channel + position * p_.out_position;
    if (p_.partial) return store_sums(partial_ + at, values);
    if (!p_.activation) {
#pragma unroll
      for (int e = 0; e < kCount; ++e) values[e] += bias(along_ ? column : column + e);
    }
    if (p_.residual) {
      const T* const from = residual_ + residual_at(position, column);
      Vector<T> residuals;
      if (residual_vectors_) {
        residuals = *reinterpret_cast<const Vector<T>*>(from);
      } else {
#pragma unroll
        for (int e = 0; e < kCount; ++e) residuals.value[e] = from[e * (along_ ? p_.residual_position : p_.residual_channel)];
      }
#pragma unroll
      for (int e = 0; e < kCount; ++e) values[e] += to_float(residuals.value[e]);
    }
    store_rounded(out_ + at, values);
  }

 private:
  __device__ __forceinline__ A bias(int column) const {
    return p_.bias ? A(to_float(static_cast<const T*>(p_.bias)[(first_channel_ + column) * p_.bias_stride])) : A(0);
  }
  __device__ __forceinline__ int64_t residual_at(int64_t position, int column) const {
    return (first_channel_ + column) * p_.residual_channel + position * p_.residual_position;
  }

  const Conv1dParams& p_;
  const int64_t first_channel_;
  const int channels_;  // from there on
  const int64_t first_position_;
  const bool along_;
  T* const out_;
  A* const partial_;
  const T* const residual_;
  const bool residual_vectors_;

 public:
  const bool vectors;
};

}  // namespace blackwell_compat
