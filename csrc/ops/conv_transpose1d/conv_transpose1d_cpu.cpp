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

}  // namespace

Tensor conv_transpose1d_cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias,
                            const ConvTranspose1dOptions& options) {
  const auto dtype = compute_dtype(input.scalar_type());
  const int64_t stride = options.stride, kernel = weight.size(2), c_out = weight.size(1);
  if (!dtype || options.groups != 1 || options.dilation != 1 || input.numel() == 0 || weight.numel() == 0) return {};
  const bool early = !options.pre.none() && !options.pre.is_leaky();
  Tensor x = early ? apply_activation(input, options.pre) : input;
  if (x.dim() == 2) x = x.unsqueeze(0);
  const bool channels_last = is_channels_last_1d(x);
  if (!channels_last && (x.stride(2) != 1 || x.stride(1) < x.size(2))) x = x.contiguous();

  const int64_t taps = (kernel + stride - 1) / stride;
  const int64_t l_out = (x.size(2) - 1) * stride - 2 * options.padding + kernel + options.output_padding;
  ConvLayer layer{x.size(1),  stride * c_out, taps, 1, 1, 1, stride, bias.has_value(), early ? Activation{} : options.pre,
                  options.act};
  const auto method = conv_method(layer, *dtype);
  const bool late = method != ConvMethod::kOneDnn && !options.act.none() && !options.act.is_leaky();
  if (late) layer.act = {};
  const auto packed =
      packed_weight(weight, {'t' + static_cast<int64_t>(method) * 256, static_cast<int64_t>(*dtype), stride, 0},
                    [&] { return pack_conv(method, by_phase(weight.contiguous(), stride, taps), layer, *dtype); });
  if (!packed || packed->parts.empty()) return {};

  // Positions whose every row is cut off by the padding are not computed
  const int64_t first = options.padding / stride, end = (options.padding + l_out + stride - 1) / stride;
  Tensor y = empty_1d(x.size(0), c_out, l_out, channels_last, x.options());
  const Tensor b = bias ? bias->to(*dtype).repeat({stride}) : Tensor();
  const auto step = conv_step(method, layer, *dtype, *packed, bias ? b.const_data_ptr() : nullptr);
  conv_blocks(layer, *dtype, *step, {x, y, Tensor(), end - first, taps - 1 - first, options.padding - first * stride});
  if (late) y = apply_activation(y, options.act);
  return input.dim() == 2 ? y.squeeze(0) : y;
}

}  // namespace blackwell_compat
