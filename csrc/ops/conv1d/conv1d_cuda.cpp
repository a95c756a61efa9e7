// compat_conv1d on a card that this package's kernels serve.
#include "common/card_packs.h"
#include "common/conv_cuda.h"
#include "common/layout.h"
#include "ops/conv1d/conv1d.h"

namespace blackwell_compat {
namespace {

ConvShape shape_of(const Conv1dOptions& options, bool transposed) {
  return {options.stride, options.padding, options.dilation, options.groups, transposed};
}

}  // namespace

Tensor conv1d_cuda(const Tensor& input, const Tensor& weight, const OptTensor& bias, const Conv1dOptions& options,
                   const OptTensor& residual) {
  const Tensor x = batched(input);
  const int64_t reach = options.dilation * (weight.size(2) - 1) + 1;
  const Tensor out = empty_1d(x.size(0), weight.size(0), (x.size(2) + 2 * options.padding - reach) / options.stride + 1,
                              is_channels_last_1d(input), input.options());
  conv_cuda(x, weight, value_or_undefined(bias), batched(value_or_undefined(residual)), shape_of(options, false), options.pre,
            options.act, out);
  return input.dim() == 2 ? out.squeeze(0) : out;
}

std::tuple<Tensor, Tensor, Tensor> conv1d_backward_cuda(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                        const Conv1dOptions& options, std::array<bool, 3> mask) {
  const Tensor g = batched(grad), x = batched(input);
  std::tuple<Tensor, Tensor, Tensor> grads;
  auto& [input_grad, weight_grad, bias_grad] = grads;
  if (mask[1]) keep_no_card_pack(weight);
  if (mask[0]) {
    input_grad = at::empty(input.sizes(), input.options());
    conv_cuda(g, weight, {}, {}, shape_of(options, true), {}, {}, batched(input_grad));
  }
  if (mask[1]) weight_grad = conv_weight_grad_cuda(g, x, shape_of(options, false), weight.sizes());
  if (mask[2]) bias_grad = conv_bias_grad_cuda(g);
  return grads;
}

}  // namespace blackwell_compat
