// Convolutions of volumes as those of images: the planes that make a plane of the result are channels of one image, so that all
// of its terms are summed in one kernel.
#include "aten/conv3d.h"

#include <ATen/ATen.h>

#include <array>

#include "aten/sizes.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "common/pass_on.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

using Triple = std::array<int64_t, 3>;

struct Volumes {
  Tensor input, weight;
  Triple stride{}, padding{}, dilation{};
  int64_t groups = 0, planes = 0;  // of the result

  // From stride, padding, dilation, transposed, output_padding, groups on
  bool read(const c10::ArrayRef<IValue> given) {
    if (given[3].toBool() || !given[5].isInt() || !read_sizes(given[0], 1, stride) || !read_sizes(given[1], 0, padding) ||
        !read_sizes(given[2], 1, dilation)) {
      return false;
    }
    groups = given[5].toInt();
    const auto suits = [](const Tensor& t) {
      return t.dim() == 5 && t.numel() != 0 && t.layout() == c10::kStrided && kernel_dtype(t.scalar_type());
    };
    if (!suits(input) || !suits(weight) || input.scalar_type() != weight.scalar_type() || groups < 1 ||
        input.size(1) != weight.size(1) * groups || weight.size(0) % groups != 0) {
      return false;
    }
    for (size_t d = 0; d < 3; ++d) {
      const auto axis = static_cast<int64_t>(2 + d);
      const int64_t reach = input.size(axis) + 2 * padding[d] - dilation[d] * (weight.size(axis) - 1) - 1;
      if (reach < 0) return false;
      if (d == 0) planes = reach / stride[0] + 1;
    }
    return true;
  }

  // (batch * planes, channels * planes of the weight, height, width)
  Tensor images() const {
    const Tensor padded = padding[0] == 0 ? input : at::constant_pad_nd(input, {0, 0, 0, 0, padding[0], padding[0]});
    const auto strides = padded.strides();
    return padded
        .as_strided({input.size(0), planes, input.size(1), weight.size(2), input.size(3), input.size(4)},
                    {strides[0], strides[2] * stride[0], strides[1], strides[2] * dilation[0], strides[3], strides[4]})
        .reshape({input.size(0) * planes, input.size(1) * weight.size(2), input.size(3), input.size(4)});
  }

  Tensor filters() const {
    return weight.reshape({weight.size(0), weight.size(1) * weight.size(2), weight.size(3), weight.size(4)});
  }

  // What images() gathers, of its gradient
  Tensor gathered(const Tensor& grad) const {
    const auto parts = grad.reshape({input.size(0), planes, input.size(1), weight.size(2), input.size(3), input.size(4)});
    auto sizes = input.sizes().vec();
    sizes[2] += 2 * padding[0];
    const Tensor padded = at::zeros(sizes, input.options());
    for (int64_t k = 0; k < weight.size(2); ++k) {
      const int64_t first = k * dilation[0];
      padded.slice(2, first, first + (planes - 1) * stride[0] + 1, stride[0]).add_(parts.select(3, k).transpose(1, 2));
    }
    return padded.narrow(2, padding[0], input.size(2)).contiguous();
  }
};

at::IntArrayRef of_image(const Triple& triple) { return at::IntArrayRef(triple).slice(1); }

}  // namespace

bool convolution_3d(Stack* stack) {
  const auto given = torch::jit::last(*stack, 9);
  Volumes v{given[0].toTensor(), given[1].toTensor()};
  const Tensor bias = optional_tensor(given[2]);
  if (!v.read(given.slice(3))) return false;
  const Tensor out = at::convolution(v.images(), v.filters(), bias, of_image(v.stride), of_image(v.padding), of_image(v.dilation),
                                     false, {0, 0}, v.groups);
  const auto by_plane = out.reshape({v.input.size(0), v.planes, out.size(1), out.size(2), out.size(3)});
  give(stack, 9, {v.planes == 1 ? out.contiguous().unsqueeze(2) : by_plane.transpose(1, 2).contiguous()});
  return true;
}

// (grad, input, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask)
bool convolution_3d_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 11);
  Volumes v{given[1].toTensor(), given[2].toTensor()};
  const Tensor grad = given[0].toTensor();
  if (!v.read(given.slice(4)) || grad.dim() != 5 || grad.size(2) != v.planes || grad.scalar_type() != v.input.scalar_type()) {
    return false;
  }
  const auto mask = given[10].toBoolList();
  const Tensor of_images = grad.transpose(1, 2).reshape({grad.size(0) * grad.size(2), grad.size(1), grad.size(3), grad.size(4)});
  auto [of_input, of_weight, of_bias] =
      at::convolution_backward(of_images, v.images(), v.filters(), at::IntArrayRef{grad.size(1)}, of_image(v.stride),
                               of_image(v.padding), of_image(v.dilation), false, {0, 0}, v.groups, {mask[0], mask[1], mask[2]});
  if (mask[0]) of_input = v.gathered(of_input);
  if (mask[1]) of_weight = of_weight.reshape(v.weight.sizes()).contiguous();
  give(stack, 11, {of_input, of_weight, of_bias});
  return true;
}

}  // namespace blackwell_compat
