// conv1d with few channels in or out of a group: each thread sums some outputs at some positions, straight from memory. The
// weight is the same for a warp's threads, or lies next to each other.
#pragma once
#include "kernels/conv1d_store.cuh"

namespace blackwell_compat {

template <typename T, int kOuts>
struct alignas(kOuts == 1 ? sizeof(T) : 16) Outs {
  T value[kOuts];
};

template <typename T, int kOuts>
__device__ __forceinline__ void conv1d_direct(const Conv1dParams& p) {
  using A = typename Accumulator<T>::type;
  constexpr int kPart = 16;  // terms that are summed before they join the others, which keeps rounding errors small
  int64_t i = int64_t(blockIdx.x) * kConv1dThreads + threadIdx.x;
  const bool along = p.out_position == 1;  // neighbouring threads have neighbouring positions, else outputs
  const int64_t fast = along ? p.row_tiles : p.column_tiles, slow = along ? p.column_tiles : p.row_tiles;
  const int64_t tile_fast = i % fast, tile_slow = i / fast % slow;
  i /= fast * slow;
  const int phase = static_cast<int>(i % p.phases);
  const int64_t batch = i / p.phases;
  if (batch >= p.batch) return;
  const int64_t row = along ? tile_fast : tile_slow;
  const int column = static_cast<int>(along ? tile_slow : tile_fast);
  const int tiles_of_group = divided_up(p.out_channels, kOuts);
  const int group = column / tiles_of_group, first_out = column % tiles_of_group * kOuts;

  const PhaseTaps taps(p, phase);
  const T* const input =
      static_cast<const T*>(p.input) + batch * p.input_batch + int64_t(group) * p.in_channels * p.input_channel;
  const T* const weight = static_cast<const T*>(p.weight) + group * p.weight_group + first_out * p.weight_out;
  A part[kConv1dPositions][kOuts] = {}, sum[kConv1dPositions][kOuts] = {};
  const auto end_part = [&] {
#pragma unroll
    for (int j = 0; j < kConv1dPositions; ++j) {
#pragma unroll
      for (int o = 0; o < kOuts; ++o) {
        sum[j][o] += part[j][o];
        part[j][o] = 0;
      }
    }
  };
  int terms = 0;
  for (int c = 0; c < p.in_channels; ++c) {
#pragma unroll 1
    for (int t = 0; t < taps.count; ++t) {
      const auto w =
          *reinterpret_cast<const Outs<T, kOuts>*>(weight + (taps.first + t * taps.every) * p.weight_tap + c * p.weight_channel);
#pragma unroll
      for (int j = 0; j < kConv1dPositions; ++j) {
        const int64_t position = (row + j * int64_t(p.row_tiles)) * p.stride + taps.base + int64_t(t) * p.tap_step;
        A x = 0;
        if (position >= 0 && position < p.in_length) {
          x = to_float(input[c * p.input_channel + position * p.input_position]);
          if (p.pre_activation) x = to_float(Convert<T>::from(activated(x, p.pre_activation, p.pre_slope)));
        }
#pragma unroll
        for (int o = 0; o < kOuts; ++o) part[j][o] += x * to_float(w.value[o]);
      }
      if (++terms % kPart == 0) end_part();
    }
  }
  end_part();

  BC_SHARED(shared);
  A* const staged = reinterpret_cast<A*>(shared) + threadIdx.x;  // the end is code for one of them
#pragma unroll
  for (int j = 0; j < kConv1dPositions; ++j) {
#pragma unroll
    for (int o = 0; o < kOuts; ++o) staged[(j * kOuts + o) * kConv1dThreads] = sum[j][o];
  }
#pragma unroll 1
  for (int j = 0; j < kConv1dPositions; ++j) {
    const int64_t position = (row + j * int64_t(p.row_tiles)) * p.phases + phase;
    if (position >= p.out_length) return;
#pragma unroll 1
    for (int o = 0; o < kOuts && first_out + o < p.out_channels; ++o) {
      const int64_t channel = int64_t(group) * p.out_channels + first_out + o;
      store_conv1d_result<T>(p, batch, channel, position, staged[(j * kOuts + o) * kConv1dThreads]);
    }
  }
}

}  // namespace blackwell_compat
