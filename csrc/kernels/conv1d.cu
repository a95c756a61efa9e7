// conv1d: an implicit product of positions by outputs over taps and channels. A block loads a window of the input once and
// multiplies it by the weights of several taps; windows and weights are on their way while others are multiplied. The same bits
// from the same inputs, whatever runs beside.
#include "kernels/conv1d_direct.cuh"
#include "kernels/conv1d_grad.cuh"
#include "kernels/conv1d_store.cuh"
#include "kernels/conv1d_window.cuh"
#include "kernels/gemm_product.cuh"

namespace blackwell_compat {

template <typename T, int kTileRows, int kTileColumns>
struct Conv1dTraits {
  using scalar_t = typename Stored<T>::type;
  using accumulator_t = typename Accumulator<scalar_t>::type;
  static constexpr int kRows = kTileRows, kColumns = kTileColumns;
  using Chosen = blackwell_compat::Product<T, kRows, kColumns, Order::kAlongK, Order::kAlongK, false,
                                           conv_threads(kRows, kColumns, sizeof(scalar_t), false)>;
  using Product = typename Chosen::type;
  static constexpr int kThreads = Chosen::kThreads;
  using Shape = TileShape<scalar_t, kColumns, Order::kAlongK>;
  using Weights = TileLoader<scalar_t, kColumns, kThreads, Order::kAlongK>;
  using Loader = WindowLoader<scalar_t, kThreads>;
  static constexpr int kSharedBytes = conv1d_shared_bytes(kColumns, kRows, kTilesFor);
  static_assert(Product::kSliceRows * (kColumns + 8) * sizeof(accumulator_t) <= kSharedBytes);
  static_assert((Product::kSliceRows + 4) * kColumns * sizeof(accumulator_t) <= kSharedBytes);
};

template <class Traits>
__device__ __forceinline__ void conv1d(const Conv1dParams& p) {
  using T = typename Traits::scalar_t;
  using A = typename Traits::accumulator_t;
  constexpr int kLine = Traits::Shape::kLine, kDepth = Traits::Shape::kDepth;
  constexpr int kStages = conv1d_weight_stages(kTilesFor), kAhead = kStages - 1;
  BC_SHARED(shared);
  T* const windows = reinterpret_cast<T*>(shared);
  T* const weights = windows + kConv1dStages * p.window_rows * kLine;

  // Tiles that run at one time read the same input
  unsigned i = blockIdx.x;
  const int first_out = i % p.column_tiles * Traits::kColumns;
  i /= p.column_tiles;
  const int phase = i % p.phases;
  i /= p.phases;
  const int64_t first_row = int64_t(i % p.row_tiles) * Traits::kRows;
  i /= p.row_tiles;
  const int group = i % p.groups;
  i /= p.groups;
  const int batch = i % p.batch;
  const unsigned split = i / p.batch;

  const PhaseTaps taps(p, phase);
  const int64_t units =
      taps.count == 0 ? 0 : int64_t(Window<kDepth>::of_chunk(p, taps.count)) * divided_up(p.in_channels, kDepth);
  const int begin = static_cast<int>(units * split / p.splits), end = static_cast<int>(units * (split + 1) / p.splits);
  const T* const input =
      static_cast<const T*>(p.input) + batch * p.input_batch + int64_t(group) * p.in_channels * p.input_channel;
  const T* const weight = static_cast<const T*>(p.weight) + group * p.weight_group + first_out * p.weight_out;
  const int64_t first_position = first_row * p.stride + taps.base;

  typename Traits::Product product;
  if (begin < end) {
    const auto load_window = [&](T* to, const Window<kDepth>& window) {
      return typename Traits::Loader(p, to, input + window.channel * p.input_channel, p.in_channels - window.channel,
                                     first_position + int64_t(window.first) * p.tap_step);
    };
    const auto lines_of = [&](const Window<kDepth>& window) { return Traits::kRows + (window.count() - 1) * p.tap_lines; };

    // A step is a tap of a window. Weights go some steps ahead
    Window<kDepth> window(p, taps.count, begin);
    typename Traits::Weights load_weights(weight, p.weight_out, 1, p.out_channels - first_out);
    Tap<kDepth> ahead(p, taps.count, window);
    const auto start_weights = [&](int stage) {
      load_weights.seek((taps.first + ahead.tap * taps.every) * p.weight_tap + ahead.channel, p.in_channels - ahead.channel);
      load_weights.start(weights + stage * Traits::Shape::kSize);
      ahead.advance();
    };
    const auto finish_weights = [&](int stage) {
      load_weights.finish(weights + stage * Traits::Shape::kSize);
      async_commit();
    };

    auto first_window = load_window(windows, window);
    first_window.start(0, lines_of(window));
    first_window.finish();
#pragma unroll
    for (int stage = 0; stage < kAhead; ++stage) {
      start_weights(stage);
      finish_weights(stage);
    }
    async_wait<kAhead - 1>();
    __syncthreads();
    int stage = 0, free_stage = kAhead;
    product.begin({windows, weights});
    for (int unit = begin; unit < end; ++unit) {
      const int count = window.count();
      const T* const here = windows + (unit - begin) % kConv1dStages * p.window_rows * kLine;
      T* const there = windows + (unit + 1 - begin) % kConv1dStages * p.window_rows * kLine;
      window.advance();
      auto load_next = load_window(there, window);
      // The next window comes in parts, one a step. The last step has none where it would be waited for at once
      const int lines = unit + 1 < end ? lines_of(window) : 0;
      const int part = divided_up(lines, kAhead > 1 && count > 1 ? count - 1 : count);
      for (int tap = 0; tap < count; ++tap) {
        product.step(
            {here + tap * p.tap_lines * kLine, weights + stage * Traits::Shape::kSize},
            [&] {
              load_next.start(min(lines, tap * part), min(lines, (tap + 1) * part));
              start_weights(free_stage);
            },
            [&] {
              load_next.finish();
              finish_weights(free_stage);
              if (count > 1) {
                async_wait<kAhead - 1>();
              } else {
                async_wait<0>();
              }
              __syncthreads();
              free_stage = stage;
              stage = stage + 1 == kStages ? 0 : stage + 1;
              return Tiles<T>{tap + 1 < count ? here + (tap + 1) * p.tap_lines * kLine : there,
                              weights + stage * Traits::Shape::kSize};
            });
      }
    }
    async_wait<0>();  // what goes beyond the last step is on its way, too
  }

  product.end();
  const Conv1dEnd<T, A> to(p, split, batch, group, phase, first_row, first_out);
  if (p.out_position == 1) {
    store_tile<Traits::kColumns, Traits::kThreads, true>(product, reinterpret_cast<A*>(shared), to);
  } else {
    store_tile<Traits::kColumns, Traits::kThreads, false>(product, reinterpret_cast<A*>(shared), to);
  }
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

BC_ENTRY(compat_conv1d_f32_128, 256, Conv1dParams, conv1d<Conv1dTraits<float, 128, 128>>)
BC_ENTRY(compat_conv1d_f32_128x64, 128, Conv1dParams, conv1d<Conv1dTraits<float, 128, 64>>)
BC_ENTRY(compat_conv1d_f32_256x32, 128, Conv1dParams, conv1d<Conv1dTraits<float, 256, 32>>)
BC_ENTRY(compat_conv1d_f32_64, 128, Conv1dParams, conv1d<Conv1dTraits<float, 64, 64>>)
BC_ENTRY(compat_conv1d_tf32_128, 256, Conv1dParams, conv1d<Conv1dTraits<tf32, 128, 128>>)
BC_ENTRY(compat_conv1d_tf32_128x64, 128, Conv1dParams, conv1d<Conv1dTraits<tf32, 128, 64>>)
BC_ENTRY(compat_conv1d_tf32_256x32, 128, Conv1dParams, conv1d<Conv1dTraits<tf32, 256, 32>>)
BC_ENTRY(compat_conv1d_tf32_64, 128, Conv1dParams, conv1d<Conv1dTraits<tf32, 64, 64>>)
BC_ENTRY(compat_conv1d_f16_128, 256, Conv1dParams, conv1d<Conv1dTraits<f16, 128, 128>>)
BC_ENTRY(compat_conv1d_f16_128x64, 128, Conv1dParams, conv1d<Conv1dTraits<f16, 128, 64>>)
BC_ENTRY(compat_conv1d_f16_256x32, 128, Conv1dParams, conv1d<Conv1dTraits<f16, 256, 32>>)
BC_ENTRY(compat_conv1d_f16_64, 128, Conv1dParams, conv1d<Conv1dTraits<f16, 64, 64>>)
BC_ENTRY(compat_conv1d_bf16_128, 256, Conv1dParams, conv1d<Conv1dTraits<bf16, 128, 128>>)
BC_ENTRY(compat_conv1d_bf16_128x64, 128, Conv1dParams, conv1d<Conv1dTraits<bf16, 128, 64>>)
BC_ENTRY(compat_conv1d_bf16_256x32, 128, Conv1dParams, conv1d<Conv1dTraits<bf16, 256, 32>>)
BC_ENTRY(compat_conv1d_bf16_64, 128, Conv1dParams, conv1d<Conv1dTraits<bf16, 64, 64>>)
BC_ENTRY(compat_conv1d_f64_64, 256, Conv1dParams, conv1d<Conv1dTraits<double, 64, 64>>)
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
