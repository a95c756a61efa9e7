// conv1d: an implicit product of positions by outputs over taps and channels. A block loads a window of the input once and
// multiplies it by the weights of several taps; windows and weights are on their way while others are multiplied. The same bits
// from the same inputs, whatever runs beside.
#include "kernels/conv1d_direct.cuh"
#include "kernels/conv1d_grad.cuh"
#include "kernels/conv1d_store.cuh"
#include "kernels/conv1d_window.cuh"
#include "kernels/gemm_product.cuh"

namespace blackwell_compat {

template <typename T, int kTile>
struct Conv1dTraits {
  using scalar_t = typename Stored<T>::type;
  using accumulator_t = typename Accumulator<T>::type;
  static constexpr int kSize = kTile, kThreads = conv1d_threads(kTile, sizeof(scalar_t)), kStagedLine = kTile + kConv1dStagedPad;
  using Shape = TileShape<scalar_t, kTile, Order::kAlongK>;
  using Weights = TileLoader<scalar_t, kTile, kThreads, Order::kAlongK>;
  using Window = WindowLoader<scalar_t, kThreads>;
  using Product = typename blackwell_compat::Product<T, kTile, Order::kAlongK, Order::kAlongK, kThreads>::type;
  static_assert(Product::kSliceRows * kStagedLine * sizeof(accumulator_t) <= conv1d_shared_bytes(kTile, kTile));
};

template <class Traits>
__device__ __forceinline__ void conv1d(const Conv1dParams& p) {
  using T = typename Traits::scalar_t;
  using A = typename Traits::accumulator_t;
  constexpr int kLine = Traits::Shape::kLine, kDepth = Traits::Shape::kDepth;
  BC_SHARED(shared);
  T* const windows = reinterpret_cast<T*>(shared);
  T* const weights = windows + kConv1dStages * p.window_rows * kLine;

  // Tiles that run at one time read the same input
  unsigned i = blockIdx.x;
  const int first_out = i % p.column_tiles * Traits::kSize;
  i /= p.column_tiles;
  const int phase = i % p.phases;
  i /= p.phases;
  const unsigned row_tile = i % p.row_tiles;
  i /= p.row_tiles;
  const int group = i % p.groups;
  i /= p.groups;
  const int batch = i % p.batch;
  const unsigned split = i / p.batch;

  // A unit is one window: some taps of one chunk of channels. A step is one of its taps
  const PhaseTaps taps(p, phase);
  const WindowTaps windows_of_chunk(p, taps.count);
  const int64_t units = int64_t(windows_of_chunk.count()) * divided_up(p.in_channels, kDepth);
  const int begin = static_cast<int>(units * split / p.splits), end = static_cast<int>(units * (split + 1) / p.splits);
  const T* const input =
      static_cast<const T*>(p.input) + batch * p.input_batch + int64_t(group) * p.in_channels * p.input_channel;
  const T* const weight = static_cast<const T*>(p.weight) + group * p.weight_group + first_out * p.weight_out;
  const int64_t first_position = int64_t(row_tile) * Traits::kSize * p.stride + taps.base;

  const auto chunk_of = [&](int unit) { return unit / windows_of_chunk.count() * kDepth; };
  const auto taps_of = [&](int unit) { return windows_of_chunk.at(unit % windows_of_chunk.count()); };
  const auto window_of = [&](int unit) { return windows + unit % kConv1dStages * p.window_rows * kLine; };
  const auto load_window = [&](int unit, int part, int parts) {
    const int channel = chunk_of(unit);
    const auto of_window = taps_of(unit);
    const int lines = unit < end ? Traits::kSize + (of_window.count - 1) * p.tap_lines : 0;
    return typename Traits::Window(p, window_of(unit), input + channel * p.input_channel, p.in_channels - channel,
                                   first_position + int64_t(of_window.first) * p.tap_step, lines * part / parts,
                                   lines * (part + 1) / parts);
  };

  typename Traits::Product product;
  if (begin < end) {
    typename Traits::Weights load_weights(weight, p.weight_out, 1, p.out_channels - first_out);
    const auto start_weights = [&](int step, int unit, int tap) {
      const int64_t from = (taps.first + (taps_of(unit).first + tap * p.share) * taps.every) * p.weight_tap;
      load_weights.start(weights + step % kConv1dStages * Traits::Shape::kSize, from + chunk_of(unit),
                         unit < end ? from + p.weight_tap : 0);
    };
    auto first_window = load_window(begin, 0, 1);
    first_window.start();
    first_window.finish();
    start_weights(0, begin, 0);
    load_weights.finish(weights);
    async_commit();
    int step = 0;
    for (int unit = begin; unit < end; ++unit) {
      const int count = taps_of(unit).count;
      for (int tap = 0; tap < count; ++tap, ++step) {
        async_wait<0>();
        __syncthreads();
        auto next_window = load_window(unit + 1, tap, count);
        next_window.start();
        const bool last = tap + 1 == count;
        start_weights(step + 1, last ? unit + 1 : unit, last ? 0 : tap + 1);
        product.step(window_of(unit) + tap * p.tap_lines * kLine, weights + step % kConv1dStages * Traits::Shape::kSize);
        load_weights.finish(weights + (step + 1) % kConv1dStages * Traits::Shape::kSize);
        next_window.finish();
        async_commit();
      }
    }
    async_wait<0>();
  }

  product.end();
  store_tile<Traits::kSize, Traits::kThreads>(
      product, reinterpret_cast<A*>(shared), Traits::kStagedLine, p.out_position == 1, [&](int row, int column, A sum) {
        const int64_t position = (int64_t(row_tile) * Traits::kSize + row) * p.phases + phase;
        const int out = first_out + column;
        if (position >= p.out_length || out >= p.out_channels) return;
        store_conv1d_sum<T>(p, split, batch, int64_t(group) * p.out_channels + out, position, sum);
      });
}

// Values of `Bits`, whatever they mean.
template <typename Bits>
__device__ __forceinline__ void conv1d_pack(const Conv1dPackParams& p) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= p.size[0] * p.size[1] * p.size[2] * p.size[3]) return;
  int64_t i = at;
  const int64_t i3 = i % p.size[3];
  i /= p.size[3];
  const int64_t i2 = i % p.size[2];
  i /= p.size[2];
  const int64_t from = i / p.size[1] * p.stride[0] + i % p.size[1] * p.stride[1] + i2 * p.stride[2] + i3 * p.stride[3];
  static_cast<Bits*>(p.out)[at] = i3 < p.valid ? static_cast<const Bits*>(p.in)[from] : Bits(0);
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_conv1d_f32_128, 256, Conv1dParams, conv1d<Conv1dTraits<float, 128>>)
BC_ENTRY(compat_conv1d_f32_64, 128, Conv1dParams, conv1d<Conv1dTraits<float, 64>>)
BC_ENTRY(compat_conv1d_tf32_128, 256, Conv1dParams, conv1d<Conv1dTraits<tf32, 128>>)
BC_ENTRY(compat_conv1d_tf32_64, 128, Conv1dParams, conv1d<Conv1dTraits<tf32, 64>>)
BC_ENTRY(compat_conv1d_f16_128, 256, Conv1dParams, conv1d<Conv1dTraits<f16, 128>>)
BC_ENTRY(compat_conv1d_f16_64, 128, Conv1dParams, conv1d<Conv1dTraits<f16, 64>>)
BC_ENTRY(compat_conv1d_bf16_128, 256, Conv1dParams, conv1d<Conv1dTraits<bf16, 128>>)
BC_ENTRY(compat_conv1d_bf16_64, 128, Conv1dParams, conv1d<Conv1dTraits<bf16, 64>>)
BC_ENTRY(compat_conv1d_f64_64, 256, Conv1dParams, conv1d<Conv1dTraits<double, 64>>)
BC_ENTRY(compat_conv1d_direct_f32_1, 128, Conv1dParams, conv1d_direct<float, 1>)
BC_ENTRY(compat_conv1d_direct_f32_8, 128, Conv1dParams, conv1d_direct<float, 8>)
BC_ENTRY(compat_conv1d_direct_f16_1, 128, Conv1dParams, conv1d_direct<f16, 1>)
BC_ENTRY(compat_conv1d_direct_f16_8, 128, Conv1dParams, conv1d_direct<f16, 8>)
BC_ENTRY(compat_conv1d_direct_bf16_1, 128, Conv1dParams, conv1d_direct<bf16, 1>)
BC_ENTRY(compat_conv1d_direct_bf16_8, 128, Conv1dParams, conv1d_direct<bf16, 8>)
BC_ENTRY(compat_conv1d_direct_f64_1, 128, Conv1dParams, conv1d_direct<double, 1>)
BC_ENTRY(compat_conv1d_direct_f64_8, 128, Conv1dParams, conv1d_direct<double, 8>)
BC_ENTRY(compat_conv1d_reduce_f32, 256, Conv1dParams, conv1d_reduce<float>)
BC_ENTRY(compat_conv1d_reduce_f16, 256, Conv1dParams, conv1d_reduce<f16>)
BC_ENTRY(compat_conv1d_reduce_bf16, 256, Conv1dParams, conv1d_reduce<bf16>)
BC_ENTRY(compat_conv1d_reduce_f64, 256, Conv1dParams, conv1d_reduce<double>)
BC_ENTRY(compat_conv1d_pack_2, 256, Conv1dPackParams, conv1d_pack<unsigned short>)
BC_ENTRY(compat_conv1d_pack_4, 256, Conv1dPackParams, conv1d_pack<unsigned>)
BC_ENTRY(compat_conv1d_pack_8, 256, Conv1dPackParams, conv1d_pack<unsigned long long>)
BC_ENTRY(compat_conv1d_grad_f32, 128, Conv1dGradParams, conv1d_grad<Conv1dGradTraits<float>>)
BC_ENTRY(compat_conv1d_grad_tf32, 128, Conv1dGradParams, conv1d_grad<Conv1dGradTraits<tf32>>)
BC_ENTRY(compat_conv1d_grad_f16, 128, Conv1dGradParams, conv1d_grad<Conv1dGradTraits<f16>>)
BC_ENTRY(compat_conv1d_grad_bf16, 128, Conv1dGradParams, conv1d_grad<Conv1dGradTraits<bf16>>)
BC_ENTRY(compat_conv1d_grad_f64, 128, Conv1dGradParams, conv1d_grad<Conv1dGradTraits<double>>)
BC_ENTRY(compat_conv1d_grad_direct_f32, 256, Conv1dGradParams, conv1d_grad_direct<float>)
BC_ENTRY(compat_conv1d_grad_direct_f16, 256, Conv1dGradParams, conv1d_grad_direct<f16>)
BC_ENTRY(compat_conv1d_grad_direct_bf16, 256, Conv1dGradParams, conv1d_grad_direct<bf16>)
BC_ENTRY(compat_conv1d_grad_direct_f64, 256, Conv1dGradParams, conv1d_grad_direct<double>)
