// Tensors to parameters: which kernel suits, what has to be packed for it, how taps and channels are split, and the launch.
#include "aten/conv2d.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <array>

#include "aten/sizes.h"
#include "common/card_packs.h"
#include "common/ceil_div.h"
#include "common/gemm_cuda.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "common/pass_on.h"
#include "kernels/conv1d.cuh"
#include "kernels/conv2d.cuh"
#include "runtime/device_info.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

constexpr int64_t kAlignment = 16;           // bytes that the kernel of tiles reads at a time
constexpr int64_t kFewChannels = 4;          // of a group, that the direct kernel is for
constexpr int64_t kLeastTermsOfSplit = 256;  // that make a split worth its sum
constexpr int64_t kMostSplits = 32;

struct Shape {
  std::array<int64_t, 2> stride, padding, dilation, output_padding;
  bool transposed;
  int64_t groups;
};

// From stride, padding, dilation, transposed, output_padding, groups on
bool read_shape(const c10::ArrayRef<IValue> given, Shape& shape) {
  if (!given[5].isInt()) return false;
  shape.transposed = given[3].toBool(), shape.groups = given[5].toInt();
  return read_sizes(given[0], 1, shape.stride) && read_sizes(given[1], 0, shape.padding) &&
         read_sizes(given[2], 1, shape.dilation) && read_sizes(given[4], 0, shape.output_padding) && shape.groups >= 1;
}

// Of a result; something below 1 where there is none
std::array<int64_t, 2> size_of(const Tensor& input, const Tensor& weight, const Shape& s) {
  std::array<int64_t, 2> size{};
  for (int d = 0; d < 2; ++d) {
    const int64_t in = input.size(2 + d), reach = s.dilation[d] * (weight.size(2 + d) - 1) + 1;
    if (s.transposed) {
      size[d] = (in - 1) * s.stride[d] - 2 * s.padding[d] + reach + s.output_padding[d];
    } else {
      size[d] = in + 2 * s.padding[d] < reach ? 0 : (in + 2 * s.padding[d] - reach) / s.stride[d] + 1;
    }
  }
  return size;
}

bool is_image(const Tensor& t, const Tensor& like) {
  return t.dim() == 4 && t.scalar_type() == like.scalar_type() && t.device() == like.device() && t.layout() == c10::kStrided &&
         t.numel() > 0;
}

// Whether PyTorch would compute it as well
bool fits(const Tensor& input, const Tensor& weight, const Shape& s) {
  if (!gemm_takes(input.scalar_type()) || !is_image(input, input) || !is_image(weight, input)) return false;
  const int64_t in = s.transposed ? weight.size(0) : weight.size(1) * s.groups;
  if (input.size(1) != in || weight.size(0) % s.groups != 0) return false;
  for (int d = 0; d < 2; ++d) {
    if (s.transposed && s.output_padding[d] >= std::max(s.stride[d], s.dilation[d])) return false;
    if (!s.transposed && s.output_padding[d] != 0) return false;
  }
  const auto size = size_of(input, weight, s);
  constexpr int64_t kMost = int64_t{1} << 30;
  return size[0] >= 1 && size[1] >= 1 && input.size(0) * size[0] * size[1] < kMost && input.size(2) * input.size(3) < kMost;
}

// What PyTorch chooses for a result.
at::MemoryFormat format_of(const Tensor& input, const Tensor& weight) {
  const bool last = input.suggest_memory_format() == at::MemoryFormat::ChannelsLast ||
                    weight.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
  return last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

at::ScalarType sum_type(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

class Convolution {
 public:
  Convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Shape& s, const Tensor& out)
      : input_(input),
        weight_(weight.stride(2) == weight.size(3) * weight.stride(3) ? weight : weight.contiguous()),
        out_(out),
        dtype_(out.scalar_type()),
        element_(out.element_size()),
        card_(runtime::device_info(out.device())) {
    p_.input = input.const_data_ptr(), p_.weight = weight_.const_data_ptr(), p_.out = out.mutable_data_ptr();
    if (bias.defined()) p_.bias = bias.const_data_ptr(), p_.bias_stride = bias.stride(0);
    p_.input_batch = input.stride(0), p_.input_channel = input.stride(1);
    p_.input_row = input.stride(2), p_.input_column = input.stride(3);
    p_.height = static_cast<int>(input.size(2)), p_.width = static_cast<int>(input.size(3));
    p_.out_height = static_cast<int>(out.size(2)), p_.out_width = static_cast<int>(out.size(3));
    const bool last = !out.is_contiguous();
    p_.out_batch = out.size(1) * out.size(2) * out.size(3);
    p_.out_channel = last ? 1 : out.size(2) * out.size(3), p_.out_position = last ? out.size(1) : 1;
    p_.batch = static_cast<int>(out.size(0)), p_.groups = static_cast<int>(s.groups);
    p_.in_channels = static_cast<int>(input.size(1) / s.groups), p_.out_channels = static_cast<int>(out.size(1) / s.groups);
    for (int d = 0; d < 2; ++d) {
      p_.kernel[d] = static_cast<int>(weight.size(2 + d)), p_.stride[d] = static_cast<int>(s.stride[d]);
      p_.padding[d] = static_cast<int>(s.padding[d]), p_.dilation[d] = static_cast<int>(s.dilation[d]);
    }
    p_.transposed = s.transposed;
    p_.weight_group = weight_.size(0) / s.groups * weight_.stride(0), p_.weight_tap = weight_.stride(3);
    p_.weight_out = weight_.stride(s.transposed ? 1 : 0), p_.weight_channel = weight_.stride(s.transposed ? 0 : 1);
  }

  void compute() {
    if (p_.in_channels <= kFewChannels) return each_result("compat_conv2d_direct_");
    compute_tiles();
  }

 private:
  int64_t taps() const { return int64_t{p_.kernel[0]} * p_.kernel[1]; }
  bool aligned(int64_t stride) const { return stride * element_ % kAlignment == 0; }
  bool aligned(const void* data) const { return reinterpret_cast<uintptr_t>(data) % kAlignment == 0; }

  void each_result(const std::string& kernel) {
    runtime::launch(kernel + kernel_dtype(dtype_), out_.device(), {ceil_div(out_.numel(), kConv2dThreads), kConv2dThreads, 0},
                    &p_);
  }

  void compute_tiles() {
    pack_weight();
    pack_input();
    const int64_t positions = int64_t{p_.batch} * p_.out_height * p_.out_width;
    const auto tiles = [&](int64_t size) { return ceil_div(positions, size) * ceil_div(p_.out_channels, size) * p_.groups; };
    const bool more_than_half_full = (p_.out_channels - 1) % 128 >= 64;  // the last of large tiles
    const bool large = dtype_ != at::kDouble && more_than_half_full && tiles(128) >= card_.multiprocessors;
    const int size = large ? 128 : 64;
    const int64_t steps = ceil_div(p_.in_channels, kGemmDepthBytes / element_) * taps();
    const int64_t splits = splits_to_fill(tiles(size), steps);
    p_.row_tiles = static_cast<unsigned>(ceil_div(positions, size));
    p_.column_tiles = static_cast<unsigned>(ceil_div(p_.out_channels, size));
    p_.splits = static_cast<unsigned>(splits);
    const Tensor partial = splits > 1 ? at::empty({splits * out_.numel()}, out_.options().dtype(sum_type(dtype_))) : Tensor();
    p_.partial = splits > 1 ? partial.mutable_data_ptr() : nullptr;
    const bool coarse = dtype_ == at::kFloat && card_.capability >= 80 && at::globalContext().allowTF32CuDNN();
    const std::string name =
        std::string("compat_conv2d_") + (coarse ? "tf32" : kernel_dtype(dtype_)) + "_" + std::to_string(size);
    runtime::launch(name, out_.device(),
                    {tiles(size) * splits,
                     conv_threads(size, size, static_cast<int>(element_), uses_tensor_cores(dtype_, coarse, card_.capability)),
                     conv2d_shared_bytes(size, card_.tiles_for)},
                    &p_);
    if (splits > 1) each_result("compat_conv2d_reduce_");
  }

  int64_t splits_to_fill(int64_t blocks, int64_t steps) const {
    if (blocks >= card_.multiprocessors) return 1;
    const int64_t worth = std::min(steps, p_.in_channels * taps() / kLeastTermsOfSplit);
    return std::max<int64_t>(1, std::min({ceil_div(2 * card_.multiprocessors, blocks), worth, kMostSplits}));
  }

  // (groups, outputs, taps, channels), the last filled up with zeros
  void pack_weight() {
    const bool there = p_.weight_channel == 1 && aligned(p_.in_channels) && aligned(p_.weight) &&
                       (taps() == 1 || aligned(p_.weight_tap)) && aligned(p_.weight_out) && aligned(p_.weight_group);
    if (there) return;
    const int64_t padded = ceil_div(p_.in_channels * element_, kAlignment) * kAlignment / element_;
    Conv1dPackParams p{};
    const std::array<long long, 4> sizes{p_.groups, p_.out_channels, taps(), padded};
    const std::array<long long*, 4> strides{&p_.weight_group, &p_.weight_out, &p_.weight_tap, &p_.weight_channel};
    int64_t count = 1;
    for (int d = 3; d >= 0; --d) {
      p.size[d] = sizes[d], p.stride[d] = *strides[d];
      *strides[d] = count;
      count *= sizes[d];
    }
    p.valid = p_.in_channels;
    p.in = p_.weight;
    packed_weight_ = pack_on_card(weight_, p);
    p_.weight = packed_weight_.const_data_ptr();
  }

  // (batch, positions, groups, channels), the last filled up with zeros
  void pack_input() {
    const bool there = p_.input_channel == 1 && aligned(p_.in_channels) && aligned(p_.input) && aligned(p_.input_batch) &&
                       aligned(p_.input_row) && aligned(p_.input_column);
    if (there) {
      p_.input_channel = p_.in_channels;
      return;
    }
    const int64_t padded = ceil_div(p_.in_channels * element_, kAlignment) * kAlignment / element_;
    Conv2dPackParams p{};
    p.in_batch = p_.input_batch, p.in_channel = p_.input_channel, p.in_row = p_.input_row, p.in_position = p_.input_column;
    p.positions = int64_t{p_.height} * p_.width;
    p.batch = p_.batch, p.width = p_.width, p.groups = p_.groups, p.channels = p_.in_channels,
    p.padded = static_cast<int>(padded);
    packed_input_ = at::empty({p.batch * p.positions * p.groups * padded}, out_.options());
    p.in = p_.input, p.out = packed_input_.mutable_data_ptr();
    p_.input = p.out;
    p_.in_channels = p.padded;
    p_.input_channel = padded, p_.input_column = padded * p.groups, p_.input_row = p_.input_column * p.width;
    p_.input_batch = p_.input_column * p.positions;
    const int64_t tiles = ceil_div(padded, kConv2dPackTile) * ceil_div(p.positions, kConv2dPackTile);
    runtime::launch(
        "compat_conv2d_pack_" + std::to_string(element_), out_.device(),
        {tiles * p.groups * p.batch, kConv2dPackTile * kConv2dPackRows, conv2d_pack_shared_bytes(static_cast<int>(element_))},
        &p);
  }

  const Tensor &input_, weight_, &out_;
  Tensor packed_weight_, packed_input_;
  const at::ScalarType dtype_;
  const int64_t element_;
  const runtime::DeviceInfo& card_;
  Conv2dParams p_{};
};

bool is_product(const Tensor& input, const Tensor& weight, const Shape& s, std::array<int64_t, 2> size) {
  const std::array<int64_t, 2> ones{1, 1}, zeros{0, 0};
  return s.groups == 1 && weight.size(2) == 1 && weight.size(3) == 1 && s.stride == ones && s.padding == zeros &&
         input.size(2) == size[0] && input.size(3) == size[1];
}

// The same `kernel` (outputs, channels) at every position
void multiply(const Tensor& input, const Tensor& kernel, const Tensor& bias, const Tensor& out) {
  const int64_t n = out.size(0), area = out.size(2) * out.size(3), c = input.size(1), o = out.size(1);
  if (out.is_contiguous()) {
    const Tensor addend = bias.defined() ? bias.view({1, o, 1}) : bias;
    gemm_cuda(kernel.unsqueeze(0), input.contiguous().view({n, c, area}).transpose(1, 2), addend, {}, out.view({n, o, area}));
  } else {
    const Tensor rows = input.contiguous(at::MemoryFormat::ChannelsLast).permute({0, 2, 3, 1}).reshape({n * area, c});
    gemm_cuda(rows, kernel, bias, {}, out.permute({0, 2, 3, 1}).view({n * area, o}));
  }
}

Tensor convolve(const Tensor& input, const Tensor& weight, const Tensor& bias, const Shape& s, std::array<int64_t, 2> size,
                at::MemoryFormat format) {
  const c10::DeviceGuard guard(input.device());
  const int64_t channels = s.transposed ? weight.size(1) * s.groups : weight.size(0);
  const Tensor out = at::empty({input.size(0), channels, size[0], size[1]}, input.options(), format);
  if (is_product(input, weight, s, size)) {
    const Tensor kernel = weight.reshape({weight.size(0), weight.size(1)});
    multiply(input, s.transposed ? kernel.t() : kernel, bias, out);
  } else {
    Convolution(input, weight, bias, s, out).compute();
  }
  return out;
}

// The gradient of a weight of `size`: `shorter` is the gradient of a plain convolution's result, the input of a transposed one;
// `longer` is the other. A product for each tap
Tensor weight_grad(const Tensor& shorter, const Tensor& longer, const Shape& s, at::IntArrayRef size) {
  const int64_t n = shorter.size(0), height = shorter.size(2), width = shorter.size(3), groups = s.groups;
  const auto [down, across] = s.padding;
  const Tensor padded = down || across ? at::constant_pad_nd(longer, {across, across, down, down}) : longer;
  const auto in_groups = [&](const Tensor& t) {  // (groups, positions, channels)
    return t.view({n, groups, t.size(1) / groups, height, width})
        .permute({1, 0, 3, 4, 2})
        .reshape({groups, n * height * width, -1});
  };
  const Tensor rows = in_groups(shorter.contiguous()).transpose(1, 2);
  const Tensor grad = at::empty({size[2], size[3], size[0], size[1]}, shorter.options());
  for (int64_t i = 0; i < size[2]; ++i) {
    for (int64_t j = 0; j < size[3]; ++j) {
      const int64_t top = i * s.dilation[0], left = j * s.dilation[1];
      const Tensor read = padded.slice(2, top, top + (height - 1) * s.stride[0] + 1, s.stride[0])
                              .slice(3, left, left + (width - 1) * s.stride[1] + 1, s.stride[1]);
      gemm_cuda(rows, in_groups(read.contiguous()).transpose(1, 2), {}, {}, grad[i][j].view({groups, size[0] / groups, size[1]}));
    }
  }
  return at::empty(size, grad.options()).copy_(grad.permute({2, 3, 0, 1}));
}

}  // namespace

// (input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
bool convolution_2d(Stack* stack) {
  const auto given = torch::jit::last(*stack, 9);
  const Tensor input = given[0].toTensor(), weight = given[1].toTensor(), bias = optional_tensor(given[2]);
  Shape shape{};
  if (!read_shape(given.slice(3), shape) || !fits(input, weight, shape)) return false;
  const int64_t channels = shape.transposed ? weight.size(1) * shape.groups : weight.size(0);
  if (bias.defined() && (bias.dim() != 1 || bias.size(0) != channels || bias.scalar_type() != input.scalar_type())) return false;
  const Tensor out = convolve(input, weight, bias, shape, size_of(input, weight, shape), format_of(input, weight));
  give(stack, 9, {out});
  return true;
}

// (grad, input, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask)
bool convolution_2d_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 11);
  const Tensor grad = given[0].toTensor(), input = given[1].toTensor(), weight = given[2].toTensor();
  Shape shape{};
  if (!read_shape(given.slice(4), shape) || !fits(input, weight, shape) || !is_image(grad, input)) return false;
  const auto mask = given[10].toBoolList();
  std::vector<Tensor> grads(3);
  if (mask[1]) keep_no_card_pack(weight);
  if (mask[0]) {
    Shape reverse = shape;
    reverse.transposed = !shape.transposed;
    grads[0] = convolve(grad, weight, {}, reverse, {input.size(2), input.size(3)}, format_of(input, weight));
  }
  if (mask[1]) {
    grads[1] =
        shape.transposed ? weight_grad(input, grad, shape, weight.sizes()) : weight_grad(grad, input, shape, weight.sizes());
  }
  if (mask[2]) grads[2] = grad.sum({0, 2, 3});
  give(stack, 11, std::move(grads));
  return true;
}

}  // namespace blackwell_compat
