// conv2d: an implicit product of positions by outputs over taps and channels, whose tiles come straight from the input; and
// one thread for each value where a group has few channels. The same bits from the same inputs, whatever runs beside.
#include "kernels/conv2d.cuh"
#include "kernels/gemm_product.cuh"

namespace blackwell_compat {

// Where a position of the result reads the input: of tap t, at base + t * step, transposed: of that every `every`-th
struct Reads {
  int base, step, every;

  __device__ Reads(const Conv2dParams& p, int axis, int position)
      : base(p.transposed ? position + p.padding[axis] : position * p.stride[axis] - p.padding[axis]),
        step(p.transposed ? -p.dilation[axis] : p.dilation[axis]),
        every(p.transposed ? p.stride[axis] : 1) {}

  // -1: nothing of the input
  __device__ __forceinline__ int at(int tap, int size) const { return place(base + tap * step, every, size); }

  static __device__ __forceinline__ int place(int i, int every, int size) {
    if (every > 1) i = i >= 0 && i % every == 0 ? i / every : -1;
    return i < size ? i : -1;
  }
};

template <typename T, typename A>
__device__ __forceinline__ void store_conv2d_result(const Conv2dParams& p, int64_t batch, int64_t position, int channel,
                                                    A value) {
  if (p.bias) value += to_float(static_cast<const T*>(p.bias)[channel * p.bias_stride]);
  static_cast<T*>(p.out)[batch * p.out_batch + channel * p.out_channel + position * p.out_position] = Convert<T>::from(value);
}

// The taps and channels of a group as one sequence of steps
struct Step {
  int row, column, channel;

  __device__ Step(const Conv2dParams& p, int step, int depth) {
    const int chunks = (p.in_channels + depth - 1) / depth, tap = step / chunks;
    row = tap / p.kernel[1], column = tap % p.kernel[1], channel = step % chunks * depth;
  }
  __device__ __forceinline__ void advance(const Conv2dParams& p, int depth) {
    channel += depth;
    if (channel < p.in_channels) return;
    channel = 0;
    if (++column < p.kernel[1]) return;
    column = 0;
    ++row;
  }
};

// This thread's part of the input's tiles: some channels of a tap at some positions. As TileLoader
template <typename T, int kRows, int kThreads>
class PositionLoader {
  using Shape = TileShape<T, kRows, Order::kAlongK>;
  static constexpr int kLinesAtOnce = kThreads / Shape::kPiecesOfLine, kPieces = kRows / kLinesAtOnce;
  static constexpr int kNowhere = -(1 << 30);

 public:
  __device__ PositionLoader(const Conv2dParams& p, const T* from, int first, int positions)
      : p_(p), down_(p, 0, 0), across_(p, 1, 0), is_even_(down_.every == 1 && across_.every == 1) {
    const int area = p.out_height * p.out_width;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int at = first + Shape::line() + i * kLinesAtOnce, position = at % area;
      const bool there = at < positions;
      rows_[i] = there ? Reads(p, 0, position / p.out_width).base : kNowhere;
      columns_[i] = Reads(p, 1, position % p.out_width).base;
      from_[i] = from + Shape::along() + (there ? at / area * p.input_batch : 0);
      if (is_even_ && there) from_[i] += rows_[i] * p.input_row + columns_[i] * p.input_column;
    }
  }

  __device__ __forceinline__ void start(T* shared, const Step& step, bool any) const {
    const int down = step.row * down_.step, across = step.column * across_.step;
    any = any && step.channel + Shape::along() < p_.in_channels;
    T* const to = shared + Shape::line() * Shape::kLine + Shape::along();
    if (is_even_) {
      const int64_t offset = step.channel + down * p_.input_row + across * p_.input_column;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const unsigned row = rows_[i] + down, column = columns_[i] + across;
        async_copy_16(to + i * kLinesAtOnce * Shape::kLine, from_[i] + offset,
                      any && row < unsigned(p_.height) && column < unsigned(p_.width));
      }
    } else {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const int row = Reads::place(rows_[i] + down, down_.every, p_.height);
        const int column = Reads::place(columns_[i] + across, across_.every, p_.width);
        async_copy_16(to + i * kLinesAtOnce * Shape::kLine,
                      from_[i] + row * p_.input_row + column * p_.input_column + step.channel, any && row >= 0 && column >= 0);
      }
    }
  }

 private:
  const Conv2dParams& p_;
  const Reads down_, across_;  // of position 0
  const bool is_even_;         // neighbouring taps read neighbours
  const T* from_[kPieces];
  int rows_[kPieces], columns_[kPieces];
};

// Where the sums of a tile go. Neighbours in the result are positions of a channel, or channels of a position.
template <typename T, typename A>
class Conv2dEnd {
 public:
  static constexpr int kCount = Vector<T>::kCount;

  __device__ Conv2dEnd(const Conv2dParams& p, unsigned split, int group, int first, int positions, int first_out)
      : p_(p),
        first_(first),
        positions_(positions),
        first_channel_(group * p.out_channels + first_out),
        channels_(p.out_channels - first_out),
        along_(p.out_position == 1),
        partial_(static_cast<A*>(p.partial) + int64_t(split) * p.batch * p.out_batch),
        vectors((along_ ? p.out_height * p.out_width : p.out_channels) % kCount == 0 && is_aligned(p.out)) {}

  static constexpr bool activates() { return false; }
  __device__ __forceinline__ A finished(int, int, A value) const { return value; }

  __device__ __forceinline__ void store(int row, int column, A value) const {
    if (first_ + row >= positions_ || column >= channels_) return;
    const int64_t at = place(row, column);
    if (p_.partial) {
      partial_[at] = value;
    } else {
      static_cast<T*>(p_.out)[at] = Convert<T>::from(value + bias(column));
    }
  }

  __device__ __forceinline__ void store_vector(int row, int column, A (&values)[kCount]) const {
    if (first_ + row >= positions_ || column >= channels_) return;
    const int64_t at = place(row, column);
    if (p_.partial) return store_sums(partial_ + at, values);
#pragma unroll
    for (int e = 0; e < kCount; ++e) values[e] += bias(along_ ? column : column + e);
    store_rounded(static_cast<T*>(p_.out) + at, values);
  }

 private:
  __device__ __forceinline__ int64_t place(int row, int column) const {
    const int area = p_.out_height * p_.out_width, at = first_ + row;
    return at / area * p_.out_batch + (first_channel_ + column) * p_.out_channel + at % area * p_.out_position;
  }
  __device__ __forceinline__ A bias(int column) const {
    return p_.bias ? A(to_float(static_cast<const T*>(p_.bias)[(first_channel_ + column) * p_.bias_stride])) : A(0);
  }

  const Conv2dParams& p_;
  const int first_, positions_, first_channel_, channels_;
  const bool along_;
  A* const partial_;

 public:
  const bool vectors;
};

template <typename T, int kTile>
__device__ __forceinline__ void conv2d(const Conv2dParams& p) {
  using S = typename Stored<T>::type;
  using A = typename Accumulator<S>::type;
  using Shape = TileShape<S, kTile, Order::kAlongK>;
  using Chosen = blackwell_compat::Product<T, kTile, kTile, Order::kAlongK, Order::kAlongK, true,
                                           conv_threads(kTile, kTile, sizeof(S), false)>;
  using Product = typename Chosen::type;
  constexpr int kThreads = Chosen::kThreads, kStages = gemm_stages(kTilesFor);
  static_assert(2 * kStages * Shape::kSize * sizeof(S) == conv2d_shared_bytes(kTile, kTilesFor));
  static_assert(Product::kSliceRows * (kTile + 8) * sizeof(A) <= conv2d_shared_bytes(kTile, kTilesFor));
  static_assert((Product::kSliceRows + 4) * kTile * sizeof(A) <= conv2d_shared_bytes(kTile, kTilesFor));
  BC_SHARED(shared);
  S* const inputs = reinterpret_cast<S*>(shared);
  S* const weights = inputs + kStages * Shape::kSize;

  // Tiles that run at one time read the same input
  unsigned block = blockIdx.x;
  const int first_out = block % p.column_tiles * kTile;
  block /= p.column_tiles;
  const int first = static_cast<int>(block % p.row_tiles) * kTile;
  block /= p.row_tiles;
  const int group = block % p.groups;
  const unsigned split = block / p.groups;

  const int positions = p.batch * p.out_height * p.out_width;
  const int steps = (p.in_channels + Shape::kDepth - 1) / Shape::kDepth * p.kernel[0] * p.kernel[1];
  const int begin = static_cast<int>(int64_t(steps) * split / p.splits),
            end = static_cast<int>(int64_t(steps) * (split + 1) / p.splits);
  const PositionLoader<S, kTile, kThreads> load_input(p, static_cast<const S*>(p.input) + group * p.input_channel, first,
                                                      positions);
  TileLoader<S, kTile, kThreads, Order::kAlongK> load_weight(
      static_cast<const S*>(p.weight) + group * p.weight_group + first_out * p.weight_out, p.weight_out, 1,
      p.out_channels - first_out);

  Step next(p, begin, Shape::kDepth);
  int ahead = begin;
  const auto start = [&](int stage) {
    load_input.start(inputs + stage * Shape::kSize, next, ahead < end);
    load_weight.seek((next.row * p.kernel[1] + next.column) * p.weight_tap + next.channel,
                     ahead < end ? p.in_channels - next.channel : 0);
    load_weight.start(weights + stage * Shape::kSize);
    next.advance(p, Shape::kDepth);
    ++ahead;
  };
  const auto finish = [&](int stage) { load_weight.finish(weights + stage * Shape::kSize); };
  const auto at = [&](int stage) { return Tiles<S>{inputs + stage * Shape::kSize, weights + stage * Shape::kSize}; };

  Product product;
  multiply_steps<kStages>(product, end - begin, start, finish, at);
  const Conv2dEnd<S, A> to(p, split, group, first, positions, first_out);
  if (p.out_position == 1) {
    store_tile<kTile, kThreads, true>(product, reinterpret_cast<A*>(shared), to);
  } else {
    store_tile<kTile, kThreads, false>(product, reinterpret_cast<A*>(shared), to);
  }
}

// A value of the result, by its place in memory
template <typename T, class Value>
__device__ __forceinline__ void each_conv2d_result(const Conv2dParams& p, Value value) {
  const int64_t i = int64_t(blockIdx.x) * kConv2dThreads + threadIdx.x;
  if (i >= p.batch * p.out_batch) return;
  const int64_t in_sample = i % p.out_batch, channels = int64_t(p.groups) * p.out_channels;
  const int64_t area = int64_t(p.out_height) * p.out_width, batch = i / p.out_batch;
  const bool along = p.out_position == 1;
  const int channel = static_cast<int>(along ? in_sample / area : in_sample % channels);
  const int64_t position = along ? in_sample % area : in_sample / channels;
  store_conv2d_result<T>(p, batch, position, channel, value(i, batch, position, channel));
}

// Adds the parts of a split sum, always in the same order.
template <typename T>
__device__ __forceinline__ void conv2d_reduce(const Conv2dParams& p) {
  using A = typename Accumulator<T>::type;
  each_conv2d_result<T>(p, [&](int64_t i, int64_t, int64_t, int) {
    A sum = 0;
    for (unsigned split = 0; split < p.splits; ++split) {
      sum += static_cast<const A*>(p.partial)[split * p.batch * p.out_batch + i];
    }
    return sum;
  });
}

template <typename T>
__device__ __forceinline__ void conv2d_direct(const Conv2dParams& p) {
  using A = typename Accumulator<T>::type;
  each_conv2d_result<T>(p, [&](int64_t, int64_t batch, int64_t position, int channel) {
    const int group = channel / p.out_channels, out = channel % p.out_channels;
    const Reads rows(p, 0, static_cast<int>(position / p.out_width)), columns(p, 1, static_cast<int>(position % p.out_width));
    const T* input = static_cast<const T*>(p.input) + batch * p.input_batch + int64_t(group) * p.in_channels * p.input_channel;
    const T* weight = static_cast<const T*>(p.weight) + group * p.weight_group + out * p.weight_out;
    A sum = 0;
    for (int c = 0; c < p.in_channels; ++c, input += p.input_channel, weight += p.weight_channel) {
      for (int i = 0; i < p.kernel[0]; ++i) {
        const int row = rows.at(i, p.height);
        if (row < 0) continue;
        A part = 0;
        for (int j = 0; j < p.kernel[1]; ++j) {
          const int column = columns.at(j, p.width);
          if (column < 0) continue;
          part += A(to_float(input[row * p.input_row + column * p.input_column])) *
                  A(to_float(weight[(i * p.kernel[1] + j) * p.weight_tap]));
        }
        sum += part;
      }
    }
    return sum;
  });
}

// A square of channels by positions, through shared memory: both sides are read and written along their lines.
template <typename Bits>
__device__ __forceinline__ void conv2d_pack(const Conv2dPackParams& p) {
  BC_SHARED(shared);
  Bits* const tile = reinterpret_cast<Bits*>(shared);
  const int across = threadIdx.x % kConv2dPackTile, down = threadIdx.x / kConv2dPackTile;
  const unsigned channel_tiles = (p.padded + kConv2dPackTile - 1) / kConv2dPackTile;
  const int64_t position_tiles = (p.positions + kConv2dPackTile - 1) / kConv2dPackTile;
  int64_t block = blockIdx.x;
  const int first_channel = static_cast<int>(block % channel_tiles) * kConv2dPackTile;
  block /= channel_tiles;
  const int64_t first_position = block % position_tiles * kConv2dPackTile;
  block /= position_tiles;
  const int group = static_cast<int>(block % p.groups);
  const int64_t batch = block / p.groups;
  const Bits* const in = static_cast<const Bits*>(p.in) + batch * p.in_batch + int64_t(group) * p.channels * p.in_channel;
  Bits* const out = static_cast<Bits*>(p.out) + (batch * p.positions * p.groups + group) * p.padded;
  for (int i = down; i < kConv2dPackTile; i += kConv2dPackRows) {
    const int channel = first_channel + i;
    const int64_t position = first_position + across;
    const bool valid = channel < p.channels && position < p.positions;
    const int64_t from = position / p.width * p.in_row + position % p.width * p.in_position + channel * p.in_channel;
    tile[i * (kConv2dPackTile + 1) + across] = valid ? in[from] : Bits(0);
  }
  __syncthreads();
  for (int i = down; i < kConv2dPackTile; i += kConv2dPackRows) {
    const int channel = first_channel + across;
    const int64_t position = first_position + i;
    if (channel >= p.padded || position >= p.positions) continue;
    out[position * p.groups * p.padded + channel] = tile[across * (kConv2dPackTile + 1) + i];
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_conv2d_f32_128, 256, Conv2dParams, conv2d<float, 128>)
BC_ENTRY(compat_conv2d_f32_64, 128, Conv2dParams, conv2d<float, 64>)
BC_ENTRY(compat_conv2d_tf32_128, 256, Conv2dParams, conv2d<tf32, 128>)
BC_ENTRY(compat_conv2d_tf32_64, 128, Conv2dParams, conv2d<tf32, 64>)
BC_ENTRY(compat_conv2d_f16_128, 256, Conv2dParams, conv2d<f16, 128>)
BC_ENTRY(compat_conv2d_f16_64, 128, Conv2dParams, conv2d<f16, 64>)
BC_ENTRY(compat_conv2d_bf16_128, 256, Conv2dParams, conv2d<bf16, 128>)
BC_ENTRY(compat_conv2d_bf16_64, 128, Conv2dParams, conv2d<bf16, 64>)
BC_ENTRY(compat_conv2d_f64_64, 256, Conv2dParams, conv2d<double, 64>)
BC_ENTRY(compat_conv2d_direct_f32, 256, Conv2dParams, conv2d_direct<float>)
BC_ENTRY(compat_conv2d_direct_f16, 256, Conv2dParams, conv2d_direct<f16>)
BC_ENTRY(compat_conv2d_direct_bf16, 256, Conv2dParams, conv2d_direct<bf16>)
BC_ENTRY(compat_conv2d_direct_f64, 256, Conv2dParams, conv2d_direct<double>)
BC_ENTRY(compat_conv2d_reduce_f32, 256, Conv2dParams, conv2d_reduce<float>)
BC_ENTRY(compat_conv2d_reduce_f16, 256, Conv2dParams, conv2d_reduce<f16>)
BC_ENTRY(compat_conv2d_reduce_bf16, 256, Conv2dParams, conv2d_reduce<bf16>)
BC_ENTRY(compat_conv2d_reduce_f64, 256, Conv2dParams, conv2d_reduce<double>)
BC_ENTRY(compat_conv2d_pack_2, 256, Conv2dPackParams, conv2d_pack<unsigned short>)
BC_ENTRY(compat_conv2d_pack_4, 256, Conv2dPackParams, conv2d_pack<unsigned>)
BC_ENTRY(compat_conv2d_pack_8, 256, Conv2dPackParams, conv2d_pack<unsigned long long>)
