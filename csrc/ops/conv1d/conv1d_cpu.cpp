// compat_conv1d on the CPU: in blocks of positions (common/conv_blocks.h), weights packed once.
#include "common/conv_blocks.h"
#include "common/layout.h"
#include "ops/conv1d/conv1d.h"

namespace blackwell_compat {
namespace {

// A weight of `size` (C_out, C_in / groups, K); packed_by(method, layer) gives its packed form, or null. `only_packed`: there
// is no other, and no choice of the method.
template <typename PackedBy>
Tensor compute(const Tensor& input, at::IntArrayRef size, at::ScalarType dtype, const OptTensor& bias,
               const Conv1dOptions& options, const OptTensor& residual, bool only_packed, const PackedBy& packed_by) {
  // Activations that a block cannot apply while it gathers are applied before
  const bool early = !options.pre.none() && !options.pre.is_leaky();
  Tensor x = early ? apply_activation(input, options.pre) : input;
  if (x.dim() == 2) x = x.unsqueeze(0);
  const bool channels_last = is_channels_last_1d(x);
  if (!channels_last && (x.stride(2) != 1 || x.stride(1) < x.size(2))) x = x.contiguous();

  const int64_t kernel = size[2];
  const int64_t l_out = (x.size(2) + 2 * options.padding - options.dilation * (kernel - 1) - 1) / options.stride + 1;
  ConvLayer layer{x.size(1),
                  size[0],
                  kernel,
                  options.stride,
                  options.dilation,
                  options.groups,
                  1,
                  bias.has_value(),
                  early ? Activation{} : options.pre,
                  options.act};
  const auto method = only_packed ? only_packed_method(layer) : conv_method(layer, dtype);
  const bool late = method != ConvMethod::kOneDnn && !options.act.none() && !options.act.is_leaky();
  if (late) layer.act = {};
  const std::shared_ptr<const Packed> packed = packed_by(method, layer);
  if (!packed || packed->parts.empty()) return {};

  Tensor y = empty_1d(x.size(0), layer.c_out, l_out, channels_last, x.options());
  Tensor r = residual ? *residual : Tensor();
  if (r.defined()) {
    r = channels_last ? r.reshape(y.sizes()).transpose(1, 2).contiguous().transpose(1, 2) : r.reshape(y.sizes()).contiguous();
  }
  const Tensor b = bias ? bias->to(dtype).contiguous() : Tensor();
  const auto step = conv_step(method, layer, dtype, *packed, bias ? b.const_data_ptr() : nullptr);
  conv_blocks(layer, dtype, *step, {x, y, late ? Tensor() : r, l_out, options.padding, 0});
  if (late) {
    y = apply_activation(y, options.act);
    if (r.defined()) y.add_(r);
  }
  return input.dim() == 2 ? y.squeeze(0) : y;
}

// What the packed form depends on; the stride is not of it.
ConvLayer layer_of(at::IntArrayRef size, int64_t dilation, int64_t groups) {
  return {size[1] * groups, size[0], size[2], 1, dilation, groups, 1, false, {}, {}};
}

}  // namespace

Tensor conv1d_cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias, const Conv1dOptions& options,
                  const OptTensor& residual) {
  const auto dtype = compute_dtype(input.scalar_type());
  if (!dtype || input.numel() == 0 || weight.numel() == 0) return {};
  const auto packed_by = [&](ConvMethod method, const ConvLayer& layer) {
    return packed_weight(weight,
                         {'c' + static_cast<int64_t>(method) * 256, static_cast<int64_t>(*dtype), options.groups,
                          options.stride << 32 | options.dilation},
                         [&] { return pack_conv(method, weight, layer, *dtype); });
  };
  return compute(input, weight.sizes(), *dtype, bias, options, residual, false, packed_by);
}

Tensor conv1d_pack(const Tensor& weight, int64_t dilation, int64_t groups) {
  const ConvLayer layer = layer_of(weight.sizes(), dilation, groups);
  const Tensor packed = pack_conv(only_packed_method(layer), weight, layer, at::kFloat).parts[0].view(-1);
  return packed.is_alias_of(weight) ? packed.clone() : packed;
}

Tensor conv1d_unpack(const Tensor& packed, at::IntArrayRef size, int64_t dilation, int64_t groups) {
  const ConvLayer layer = layer_of(size, dilation, groups);
  return unpack_conv(only_packed_method(layer), packed, layer);
}

int64_t conv1d_packed_size(at::IntArrayRef size, int64_t dilation, int64_t groups) {
  return only_packed_size(layer_of(size, dilation, groups));
}

Tensor conv1d_packed_cpu(const Tensor& input, const Tensor& packed, at::IntArrayRef size, const OptTensor& bias,
                         const Conv1dOptions& options) {
  if (input.numel() == 0) return {};
  return compute(input, size, at::kFloat, bias, options, {}, true,
                 [&](ConvMethod, const ConvLayer&) { return std::make_shared<const Packed>(Packed{{packed}, nullptr}); });
}

}  // namespace blackwell_compat
