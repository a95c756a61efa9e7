// compat_conv_transpose1d on the CPU: one convolution whose channels are the phases of the stride (common/conv_blocks.h).
#include "common/conv_blocks.h"
#include "common/layout.h"
#include "ops/conv_transpose1d/conv_transpose1d.h"

namespace blackwell_compat {
namespace {

// Output sample q * stride + r is the sum over j of input[q - j] weight[:, :, r + j * stride]. With the taps j in falling
// order and the phases r as channels that is a convolution: (C_in, C_out, K) -> (stride * C_out, C_in, taps).
Tensor by_phase(const Tensor& weight, int64_t stride, int64_t taps) {
  const int64_t c_in = weight.size(0), c_out = weight.size(1);
  const Tensor padded = at::constant_pad_nd(weight, {0, taps * stride - weight.size(2)});
  return padded.view({c_in, c_out, taps, stride}).flip(2).permute({3, 1, 0, 2}).reshape({stride * c_out, c_in, taps});
}

// The inverse, for a weight of `size`.
Tensor from_phases(const Tensor& phases, at::IntArrayRef size, int64_t stride) {
  const int64_t taps = phases.size(2);
  const Tensor padded = phases.view({stride, size[1], size[0], taps}).permute({2, 1, 3, 0}).flip(2);
  return padded.reshape({size[0], size[1], taps * stride}).narrow(2, 0, size[2]).contiguous();
}

// One convolution with a channel per phase; what else than the sizes a packed form depends on is not in it.
ConvLayer layer_of(at::IntArrayRef size, int64_t stride) {
  return {size[0], stride * size[1], (size[2] + stride - 1) / stride, 1, 1, 1, stride, false, {}, {}};
}

// As in conv1d_cpu.cpp.
template <typename PackedBy>
Tensor compute(const Tensor& input, at::IntArrayRef size, at::ScalarType dtype, const OptTensor& bias,
               const ConvTranspose1dOptions& options, bool only_packed, const PackedBy& packed_by) {
  const int64_t stride = options.stride, kernel = size[2], c_out = size[1];
  const bool early = !options.pre.none() && !options.pre.is_leaky();
  Tensor x = early ? apply_activation(input, options.pre) : input;
  if (x.dim() == 2) x = x.unsqueeze(0);
  const bool channels_last = is_channels_last_1d(x);
  if (!channels_last && (x.stride(2) != 1 || x.stride(1) < x.size(2))) x = x.contiguous();

  const int64_t l_out = (x.size(2) - 1) * stride - 2 * options.padding + kernel + options.output_padding;
  ConvLayer layer = layer_of(size, stride);
  const int64_t taps = layer.kernel;
  layer.bias = bias.has_value();
  layer.pre = early ? Activation{} : options.pre;
  layer.act = options.act;
  const auto method = only_packed ? only_packed_method(layer) : conv_method(layer, dtype);
  const bool late = method != ConvMethod::kOneDnn && !options.act.none() && !options.act.is_leaky();
  if (late) layer.act = {};
  const std::shared_ptr<const Packed> packed = packed_by(method, layer);
  if (!packed || packed->parts.empty()) return {};

  // Positions whose every row is cut off by the padding are not computed
  const int64_t first = options.padding / stride, end = (options.padding + l_out + stride - 1) / stride;
  Tensor y = empty_1d(x.size(0), c_out, l_out, channels_last, x.options());
  const Tensor b = bias ? bias->to(dtype).repeat({stride}) : Tensor();
  const auto step = conv_step(method, layer, dtype, *packed, bias ? b.const_data_ptr() : nullptr);
  conv_blocks(layer, dtype, *step, {x, y, Tensor(), end - first, taps - 1 - first, options.padding - first * stride});
  if (late) y = apply_activation(y, options.act);
  return input.dim() == 2 ? y.squeeze(0) : y;
}

}  // namespace

Tensor conv_transpose1d_cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias,
                            const ConvTranspose1dOptions& options) {
  const auto dtype = compute_dtype(input.scalar_type());
  if (!dtype || options.groups != 1 || options.dilation != 1 || input.numel() == 0 || weight.numel() == 0) return {};
  const auto packed_by = [&](ConvMethod method, const ConvLayer& layer) {
    return packed_weight(
        weight, {'t' + static_cast<int64_t>(method) * 256, static_cast<int64_t>(*dtype), options.stride, 0},
        [&] { return pack_conv(method, by_phase(weight.contiguous(), options.stride, layer.kernel), layer, *dtype); });
  };
  return compute(input, weight.sizes(), *dtype, bias, options, false, packed_by);
}

Tensor conv_transpose1d_pack(const Tensor& weight, int64_t stride) {
  const ConvLayer layer = layer_of(weight.sizes(), stride);
  const Tensor phases = by_phase(weight.contiguous(), stride, layer.kernel);
  const Tensor packed = pack_conv(only_packed_method(layer), phases, layer, at::kFloat).parts[0].view(-1);
  return packed.is_alias_of(weight) ? packed.clone() : packed;
}

Tensor conv_transpose1d_unpack(const Tensor& packed, at::IntArrayRef size, int64_t stride) {
  const ConvLayer layer = layer_of(size, stride);
  return from_phases(unpack_conv(only_packed_method(layer), packed, layer), size, stride);
}

int64_t conv_transpose1d_packed_size(at::IntArrayRef size, int64_t stride) { return only_packed_size(layer_of(size, stride)); }

Tensor conv_transpose1d_packed_cpu(const Tensor& input, const Tensor& packed, at::IntArrayRef size, const OptTensor& bias,
                                   const ConvTranspose1dOptions& options) {
  if (input.numel() == 0) return {};
  return compute(input, size, at::kFloat, bias, options, true,
                 [&](ConvMethod, const ConvLayer&) { return std::make_shared<const Packed>(Packed{{packed}, nullptr}); });
}

}  // namespace blackwell_compat
