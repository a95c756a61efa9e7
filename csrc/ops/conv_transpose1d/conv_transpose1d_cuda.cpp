// compat_conv_transpose1d on a card that this package's kernels serve.
#include "common/card_packs.h"
#include "common/conv_cuda.h"
#include "common/layout.h"
#include "ops/conv_transpose1d/conv_transpose1d.h"

namespace blackwell_compat {
namespace {

ConvShape shape_of(const ConvTranspose1dOptions& options, bool transposed) {
  return {options.stride, options.padding, options.dilation, options.groups, transposed};
}

}  // namespace

Tensor conv_transpose1d_cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias,
                             const ConvTranspose1dOptions& options) {
  const Tensor x = batched(input);
  const int64_t length = (x.size(2) - 1) * options.stride - 2 * options.padding + options.dilation * (weight.size(2) - 1) +
                         options.output_padding + 1;
  const Tensor out = empty_1d(x.size(0), weight.size(1) * options.groups, length, is_channels_last_1d(input), input.options());
  conv_cuda(x, weight, value_or_undefined(bias), {}, shape_of(options, true), options.pre, options.act, out);
  return input.dim() == 2 ? out.squeeze(0) : out;
}

std::tuple<Tensor, Tensor, Tensor> conv_transpose1d_backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                                  const ConvTranspose1dOptions& options,
                                                                  std::array<bool, 3> mask) {
  const Tensor g = batched(grad), x = batched(input);
  std::tuple<Tensor, Tensor, Tensor> grads;
  auto& [input_grad, weight_grad, bias_grad] = grads;
  if (mask[1]) keep_no_card_pack(weight);
  if (mask[0]) {
    input_grad = at::empty(input.sizes(), input.options());
    conv_cuda(g, weight, {}, {}, shape_of(options, false), {}, {}, batched(input_grad));
  }
  if (mask[1]) weight_grad = conv_weight_grad_cuda(x, g, shape_of(options, true), weight.sizes());
  if (mask[2]) bias_grad = conv_bias_grad_cuda(g);
  return grads;
}

}  // namespace blackwell_compat
