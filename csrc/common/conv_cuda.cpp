// Tensors to parameters: which kernel suits, which taps share a window, how taps and channels are split, and the launch.
#include "common/conv_cuda.h"

#include <ATen/Context.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <tuple>

#include "common/card_packs.h"
#include "common/ceil_div.h"
#include "common/gemm_cuda.h"
#include "common/kernel_dtype.h"
#include "kernels/conv1d.cuh"
#include "runtime/device_info.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;

constexpr int64_t kAlignment = 16;           // bytes that kernels read at a time
constexpr int64_t kFewChannels = 8;          // of a group, that the direct kernels are for
constexpr int64_t kLeastTermsOfSplit = 256;  // that make a split worth its sum
constexpr int64_t kMostSplits = 32;
constexpr int kThreads = 256;  // of the kernels that have a thread for each value

at::ScalarType sum_type(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }
int sum_bytes(at::ScalarType dtype) { return static_cast<int>(c10::elementSize(sum_type(dtype))); }

bool takes_tf32(at::ScalarType dtype, int capability) {
  return dtype == at::kFloat && capability >= 80 && at::globalContext().allowTF32CuDNN();
}

std::string product_dtype(at::ScalarType dtype, int capability) {
  return takes_tf32(dtype, capability) ? "tf32" : kernel_dtype(dtype);
}

// Into how many parts a sum of `terms` goes so that `blocks` for each fill the card.
int64_t splits_to_fill(int64_t blocks, int64_t terms, int64_t most, const runtime::DeviceInfo& card) {
  if (blocks >= card.multiprocessors) return 1;
  return std::max<int64_t>(1,
                           std::min({ceil_div(2 * card.multiprocessors, blocks), terms / kLeastTermsOfSplit, most, kMostSplits}));
}

// The x with value * x = 1 modulo `modulus`, which have no common divisor.
int64_t inverse(int64_t value, int64_t modulus) {
  int64_t a = value % modulus, b = modulus, x = 1, y = 0;
  while (b != 0) {
    std::tie(a, b, x, y) = std::make_tuple(b, a % b, y, x - a / b * y);
  }
  return (x % modulus + modulus) % modulus;
}

class Convolution {
 public:
  Convolution(const Tensor& input, const Tensor& weight, const ConvShape& shape, const Tensor& out)
      : weight_(weight), out_(out), dtype_(out.scalar_type()), card_(runtime::device_info(out.device())) {
    p_.input = input.const_data_ptr(), p_.out = out.mutable_data_ptr();
    p_.in_length = input.size(2), p_.out_length = out.size(2);
    p_.input_batch = input.stride(0), p_.input_channel = input.stride(1), p_.input_position = input.stride(2);
    const bool channels_last = out.size(1) > 1 && out.stride(1) == 1 && out.size(2) > 1;
    p_.out_batch = out.size(1) * out.size(2);
    p_.out_channel = channels_last ? 1 : out.size(2), p_.out_position = channels_last ? out.size(1) : 1;
    p_.padding = shape.padding;
    p_.batch = static_cast<int>(out.size(0)), p_.groups = static_cast<int>(shape.groups);
    p_.in_channels = static_cast<int>(input.size(1) / shape.groups);
    p_.out_channels = static_cast<int>(out.size(1) / shape.groups);
    p_.kernel = static_cast<int>(weight.size(2));
    p_.dilation = static_cast<int>(shape.dilation);
    p_.transposed = shape.transposed;
    const int64_t common = std::gcd(shape.stride, shape.dilation), cycle = shape.stride / common;
    p_.phases = static_cast<int>(shape.transposed ? shape.stride : 1);
    p_.stride = static_cast<int>(shape.transposed ? 1 : shape.stride);
    p_.tap_step = static_cast<int>(shape.transposed ? shape.dilation / common : shape.dilation);
    p_.common = static_cast<int>(common), p_.cycle = static_cast<int>(cycle);
    p_.inverse = static_cast<int>(inverse(shape.dilation / common, cycle));
    p_.weight = weight.const_data_ptr();
    p_.weight_group = weight.size(0) / shape.groups * weight.stride(0), p_.weight_tap = weight.stride(2);
    p_.weight_out = weight.stride(shape.transposed ? 1 : 0), p_.weight_channel = weight.stride(shape.transposed ? 0 : 1);
  }

  void set_end(const Tensor& bias, const Tensor& residual, Activation pre, Activation act) {
    if (bias.defined()) p_.bias = bias.const_data_ptr(), p_.bias_stride = bias.stride(0);
    if (residual.defined()) {
      p_.residual = residual.const_data_ptr();
      p_.residual_batch = residual.stride(0), p_.residual_channel = residual.stride(1), p_.residual_position = residual.stride(2);
    }
    p_.pre_activation = static_cast<int>(pre.kind), p_.pre_slope = pre.slope;
    p_.activation = static_cast<int>(act.kind), p_.slope = act.slope;
  }

  void compute() {
    const int64_t positions = ceil_div(p_.out_length, p_.phases);
    is_direct(positions) ? compute_direct(positions) : compute_tiles(positions);
  }

 private:
  int64_t taps() const { return p_.transposed ? ceil_div(p_.kernel, p_.cycle) : p_.kernel; }  // of a phase, at most

  // Few channels out of many are worth it only where their positions fill the card.
  bool is_direct(int64_t positions) const {
    if (p_.in_channels <= kFewChannels) return true;
    const int64_t blocks =
        ceil_div(int64_t{p_.batch} * p_.groups * p_.phases * ceil_div(positions, kConv1dPositions), kConv1dThreads);
    return p_.out_channels <= kFewChannels && (blocks >= card_.multiprocessors || p_.in_channels * taps() <= kLeastTermsOfSplit);
  }

  void compute_direct(int64_t positions) {
    const bool single = p_.out_channels == 1;
    const int outs = single ? 1 : kConv1dOuts;
    if (!single) pack({group(), tap(), channel(), out()}, outs);
    p_.row_tiles = static_cast<unsigned>(ceil_div(positions, kConv1dPositions));
    p_.column_tiles = static_cast<unsigned>(p_.groups * ceil_div(p_.out_channels, outs));
    const int64_t threads = int64_t{p_.row_tiles} * p_.column_tiles * p_.phases * p_.batch;
    const std::string name = std::string("compat_conv1d_direct_") + kernel_dtype(dtype_) + "_" + std::to_string(outs);
    runtime::launch(name, out_.device(),
                    {ceil_div(threads, kConv1dThreads), kConv1dThreads, conv1d_direct_shared_bytes(outs, sum_bytes(dtype_))},
                    &p_);
  }

  // Positions by outputs, and what a result of theirs costs: narrow tiles use less often what they read.
  struct Tile {
    int64_t rows, columns;
    double cost;
    std::string name() const {
      return rows == columns ? std::to_string(rows) : std::to_string(rows) + "x" + std::to_string(columns);
    }
  };

  bool tensor_cores() const { return uses_tensor_cores(dtype_, takes_tf32(dtype_, card_.capability), card_.capability); }

  int64_t blocks(const Tile& tile, int64_t positions) const {
    return ceil_div(positions, tile.rows) * ceil_div(p_.out_channels, tile.columns) * p_.batch * p_.groups * p_.phases;
  }

  int64_t splits(const Tile& tile, int64_t positions, int64_t units) const {
    return splits_to_fill(blocks(tile, positions), taps() * p_.in_channels, units, card_);
  }

  // That with the cheapest waves of blocks over the card.
  Tile tile_for(int64_t positions) const {
    const bool tensor = tensor_cores();
    const std::array<Tile, 4> tiles{
        {{64, 64, tensor ? 1.5 : 1.2}, {128, 128, 1}, {128, 64, tensor ? 1.15 : 1}, {256, 32, tensor ? 1.2 : 1}}};
    if (dtype_ == at::kDouble) return tiles[0];
    const int64_t chunks = ceil_div(p_.in_channels, kGemmDepthBytes / out_.element_size());
    const auto cost = [&](const Tile& tile) {
      const int64_t parts = splits(tile, positions, chunks * taps());
      const int64_t waves = ceil_div(blocks(tile, positions) * parts, card_.multiprocessors);
      return tile.cost * static_cast<double>(waves * tile.rows * tile.columns) / static_cast<double>(parts);
    };
    return *std::min_element(tiles.begin(), tiles.end(), [&](const Tile& a, const Tile& b) { return cost(a) < cost(b); });
  }

  void compute_tiles(int64_t positions) {
    const Tile tile = tile_for(positions);
    const int element = static_cast<int>(out_.element_size());
    if (is_packed()) {
      p_.weight_tap = p_.in_channels;
    } else {
      pack({group(), out(), tap(), channel()}, kAlignment / element);
    }
    p_.vectors = p_.input_channel == 1 && aligned(p_.input) && aligned(p_.in_channels) && aligned(p_.input_batch) &&
                 aligned(p_.input_position);
    const int64_t chunks = ceil_div(p_.in_channels, kGemmDepthBytes / element);
    const int64_t parts = splits(tile, positions, chunks * set_window(tile));
    p_.splits = static_cast<unsigned>(parts);
    p_.row_tiles = static_cast<unsigned>(ceil_div(positions, tile.rows));
    p_.column_tiles = static_cast<unsigned>(ceil_div(p_.out_channels, tile.columns));
    const Tensor partial = parts > 1 ? at::empty({parts * out_.numel()}, out_.options().dtype(sum_type(dtype_))) : Tensor();
    p_.partial = parts > 1 ? partial.mutable_data_ptr() : nullptr;
    const int rows = static_cast<int>(tile.rows), columns = static_cast<int>(tile.columns);
    runtime::launch("compat_conv1d_" + product_dtype(dtype_, card_.capability) + "_" + tile.name(), out_.device(),
                    {blocks(tile, positions) * parts, conv_threads(rows, columns, element, tensor_cores()),
                     conv1d_shared_bytes(columns, p_.window_rows, card_.tiles_for)},
                    &p_);
    if (parts > 1) {
      runtime::launch(std::string("compat_conv1d_reduce_") + kernel_dtype(dtype_), out_.device(),
                      {ceil_div(out_.numel(), kThreads), kThreads, 0}, &p_);
    }
  }

  // As many taps to a window as there is room for, where that loads fewer lines than a window for each tap. How many windows a
  // chunk of channels takes then.
  int64_t set_window(const Tile& tile) {
    const int64_t common = std::gcd(p_.stride, p_.tap_step), share = p_.stride / common, lines = p_.tap_step / common;
    const int architecture = card_.tiles_for;
    const int64_t room = (conv1d_most_shared_bytes(architecture) -
                          conv1d_shared_bytes(static_cast<int>(tile.columns), static_cast<int>(tile.rows), architecture)) /
                         (kConv1dStages * (kGemmDepthBytes + kGemmPadBytes));
    const int64_t least = taps() / share, longer = taps() % share, most = ceil_div(taps(), share);
    int64_t count = lines < tile.rows ? std::min(most, std::max<int64_t>(0, room) / lines + 1) : 1;
    count = ceil_div(most, ceil_div(most, count));
    p_.window_taps = static_cast<int>(count), p_.share = static_cast<int>(share), p_.tap_lines = static_cast<int>(lines);
    p_.window_rows = static_cast<int>(tile.rows + (count - 1) * lines);
    return longer * ceil_div(least + 1, count) + (share - longer) * ceil_div(least, count);
  }

  bool aligned(int64_t stride) const { return stride * out_.element_size() % kAlignment == 0; }
  bool aligned(const void* data) const { return reinterpret_cast<uintptr_t>(data) % kAlignment == 0; }

  // Whether the weight already lies as the tiles want it.
  bool is_packed() const {
    return p_.kernel == 1 && p_.weight_channel == 1 && aligned(p_.weight) && aligned(p_.in_channels) &&
           aligned(p_.weight_group) && aligned(p_.weight_out);
  }

  struct Axis {
    int64_t size;
    long long* stride;
  };
  Axis group() { return {p_.groups, &p_.weight_group}; }
  Axis out() { return {p_.out_channels, &p_.weight_out}; }
  Axis tap() { return {p_.kernel, &p_.weight_tap}; }
  Axis channel() { return {p_.in_channels, &p_.weight_channel}; }

  // Makes the weight dense with its axes in this order, the last filled up with zeros to a multiple of `multiple`.
  void pack(const std::array<Axis, 4>& axes, int64_t multiple) {
    Conv1dPackParams p{};
    for (int d = 0; d < 4; ++d) p.size[d] = axes[d].size, p.stride[d] = *axes[d].stride;
    p.valid = p.size[3];
    p.size[3] = ceil_div(p.valid, multiple) * multiple;
    int64_t count = 1;
    for (int d = 3; d >= 0; --d) {
      *axes[d].stride = count;
      count *= p.size[d];
    }
    p.in = p_.weight;
    packed_ = pack_on_card(weight_, p);
    p_.weight = packed_.const_data_ptr();
  }

  const Tensor &weight_, &out_;
  Tensor packed_;
  const at::ScalarType dtype_;
  const runtime::DeviceInfo& card_;
  Conv1dParams p_{};
};

Conv1dGradParams grad_params(const Tensor& shorter) {
  Conv1dGradParams p{};
  p.shorter = shorter.const_data_ptr();
  p.shorter_length = shorter.size(2), p.batch = static_cast<int>(shorter.size(0));
  p.shorter_batch = shorter.stride(0), p.shorter_channel = shorter.stride(1), p.shorter_position = shorter.stride(2);
  return p;
}

Tensor weight_grad(Conv1dGradParams& p, const Tensor& out) {
  if (out.numel() == 0) return out;
  const c10::DeviceGuard guard(out.device());
  const at::ScalarType dtype = out.scalar_type();
  const auto& card = runtime::device_info(out.device());
  p.out = out.mutable_data_ptr();
  if (std::min(p.shorter_channels, p.longer_channels) <= kFewChannels) {
    runtime::launch(std::string("compat_conv1d_grad_direct_") + kernel_dtype(dtype), out.device(),
                    {out.numel(), kConv1dGradThreads, kConv1dGradThreads * sum_bytes(dtype)}, &p);
    return out;
  }
  p.row_tiles = static_cast<unsigned>(ceil_div(p.shorter_channels, kConv1dGradTile));
  p.column_tiles = static_cast<unsigned>(ceil_div(p.longer_channels, kConv1dGradTile));
  const int64_t blocks = int64_t{p.row_tiles} * p.column_tiles * p.groups * p.kernel, terms = p.shorter_length * p.batch;
  const int64_t splits = splits_to_fill(blocks, terms, kMostSplits, card);
  p.splits = static_cast<unsigned>(splits);
  const Tensor partial = splits > 1 ? at::empty({splits * out.numel()}, out.options().dtype(sum_type(dtype))) : Tensor();
  p.partial = splits > 1 ? partial.mutable_data_ptr() : nullptr;
  runtime::launch("compat_conv1d_grad_" + product_dtype(dtype, card.capability), out.device(),
                  {blocks * splits, gemm_threads(kConv1dGradTile, kConv1dGradTile, false), conv1d_grad_shared_bytes()}, &p);
  if (splits > 1) {
    GemmParams sums{};
    sums.out = p.out, sums.partial = p.partial, sums.splits = p.splits;
    sums.M = sums.batch = 1, sums.N = out.numel();
    runtime::launch(std::string("compat_gemm_reduce_") + kernel_dtype(dtype), out.device(),
                    {ceil_div(out.numel(), kThreads), kThreads, 0}, &sums);
  }
  return out;
}

}  // namespace

void conv_cuda(const Tensor& input, const Tensor& weight, const Tensor& bias, const Tensor& residual, const ConvShape& shape,
               Activation pre, Activation act, const Tensor& out) {
  if (out.numel() == 0) return;
  const c10::DeviceGuard guard(out.device());
  Convolution convolution(input, weight, shape, out);
  convolution.set_end(bias, residual, pre, act);
  convolution.compute();
}

Tensor conv_weight_grad_cuda(const Tensor& shorter, const Tensor& longer, const ConvShape& shape, at::IntArrayRef size) {
  Conv1dGradParams p = grad_params(shorter);
  p.longer = longer.const_data_ptr();
  p.longer_length = longer.size(2);
  p.longer_batch = longer.stride(0), p.longer_channel = longer.stride(1), p.longer_position = longer.stride(2);
  p.padding = shape.padding;
  p.stride = static_cast<int>(shape.stride), p.dilation = static_cast<int>(shape.dilation);
  p.groups = static_cast<int>(shape.groups), p.shorter_channels = static_cast<int>(size[0] / shape.groups);
  p.longer_channels = static_cast<int>(size[1]), p.kernel = static_cast<int>(size[2]);
  return weight_grad(p, at::empty(size, shorter.options()));
}

Tensor conv_bias_grad_cuda(const Tensor& grad) {
  Conv1dGradParams p = grad_params(grad);
  p.longer_length = p.shorter_length;
  p.stride = p.dilation = p.groups = p.longer_channels = p.kernel = 1;
  p.shorter_channels = static_cast<int>(grad.size(1));
  return weight_grad(p, at::empty({grad.size(1)}, grad.options()));
}

std::vector<std::string> conv_kernels(at::ScalarType dtype, int capability) {
  const std::string of = kernel_dtype(dtype), tiles = "compat_conv1d_" + product_dtype(dtype, capability);
  std::vector<std::string> names{tiles + "_64", "compat_conv1d_reduce_" + of, "compat_conv1d_direct_" + of + "_1",
                                 "compat_conv1d_direct_" + of + "_8",
                                 "compat_conv1d_pack_" + std::to_string(c10::elementSize(dtype))};
  if (dtype != at::kDouble) {
    for (const char* size : {"_128", "_128x64", "_256x32"}) names.push_back(tiles + size);
  }
  return names;
}

}  // namespace blackwell_compat
