// im2col and col2im, which fold and unfold are: copies and sums of views.
#include <ATen/ATen.h>

#include <array>

#include "aten/sizes.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

using Pair = std::array<int64_t, 2>;

struct Blocks {
  Pair kernel, dilation, padding, stride, blocks;

  // From kernel_size, dilation, padding, stride on, over an image of that size
  bool read(c10::ArrayRef<IValue> given, const Pair& image) {
    if (!read_sizes(given[0], 1, kernel) || !read_sizes(given[1], 1, dilation) || !read_sizes(given[2], 0, padding) ||
        !read_sizes(given[3], 1, stride)) {
      return false;
    }
    for (size_t d = 0; d < 2; ++d) {
      const int64_t reach = image[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1;
      if (reach < 0) return false;
      blocks[d] = reach / stride[d] + 1;
    }
    return true;
  }
};

// (self, kernel_size, dilation, padding, stride)
bool im2col(Stack* stack) {
  const auto given = torch::jit::last(*stack, 5);
  const Tensor self = given[0].toTensor();
  if ((self.dim() != 3 && self.dim() != 4) || self.numel() == 0 || self.layout() != c10::kStrided) return false;
  const Tensor image = self.dim() == 3 ? self.unsqueeze(0) : self;
  Blocks b{};
  if (!b.read(given.slice(1), {image.size(2), image.size(3)})) return false;
  const bool pads = b.padding[0] > 0 || b.padding[1] > 0;
  const Tensor padded = pads ? at::constant_pad_nd(image, {b.padding[1], b.padding[1], b.padding[0], b.padding[0]}) : image;
  const auto strides = padded.strides();
  const Tensor columns = padded
                             .as_strided({image.size(0), image.size(1), b.kernel[0], b.kernel[1], b.blocks[0], b.blocks[1]},
                                         {strides[0], strides[1], strides[2] * b.dilation[0], strides[3] * b.dilation[1],
                                          strides[2] * b.stride[0], strides[3] * b.stride[1]})
                             .clone(at::MemoryFormat::Contiguous)
                             .view({image.size(0), image.size(1) * b.kernel[0] * b.kernel[1], b.blocks[0] * b.blocks[1]});
  give(stack, 5, {self.dim() == 3 ? columns.squeeze(0) : columns});
  return true;
}

// (self, output_size, kernel_size, dilation, padding, stride)
bool col2im(Stack* stack) {
  const auto given = torch::jit::last(*stack, 6);
  const Tensor self = given[0].toTensor();
  if ((self.dim() != 2 && self.dim() != 3) || self.numel() == 0 || self.layout() != c10::kStrided) return false;
  const Tensor columns = self.dim() == 2 ? self.unsqueeze(0) : self;
  Blocks b{};
  Pair image{};
  if (!read_sizes(given[1], 1, image) || !b.read(given.slice(2), image)) return false;
  const int64_t of_channel = b.kernel[0] * b.kernel[1];
  if (columns.size(1) % of_channel != 0 || columns.size(2) != b.blocks[0] * b.blocks[1]) return false;
  const int64_t batch = columns.size(0), channels = columns.size(1) / of_channel;
  const Tensor parts = columns.reshape({batch, channels, b.kernel[0], b.kernel[1], b.blocks[0], b.blocks[1]});
  const Tensor sums = at::zeros({batch, channels, image[0] + 2 * b.padding[0], image[1] + 2 * b.padding[1]}, self.options());
  const auto of_tap = [&](const Tensor& tensor, int64_t axis, size_t d, int64_t tap) {
    const int64_t first = tap * b.dilation[d];
    return tensor.slice(axis, first, first + (b.blocks[d] - 1) * b.stride[d] + 1, b.stride[d]);
  };
  for (int64_t y = 0; y < b.kernel[0]; ++y) {
    for (int64_t x = 0; x < b.kernel[1]; ++x) of_tap(of_tap(sums, 2, 0, y), 3, 1, x).add_(parts.select(2, y).select(2, x));
  }
  const Tensor out = sums.narrow(2, b.padding[0], image[0]).narrow(3, b.padding[1], image[1]).contiguous();
  give(stack, 6, {self.dim() == 2 ? out.squeeze(0) : out});
  return true;
}

const OwnKernel unfolded("aten::im2col", &im2col), folded("aten::col2im", &col2im);

}  // namespace
}  // namespace blackwell_compat
