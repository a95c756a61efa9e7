// PyTorch's avg_pool2d, which avg_pool1d comes down to, and its gradient.
#include "kernels/pool.cuh"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <array>

#include "common/ceil_div.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

// Lists of one value are for both dimensions.
bool read_pair(const IValue& value, int64_t least, int (&pair)[2]) {
  if (!value.isIntList()) return false;
  const auto list = value.toIntVector();
  if (list.empty() || list.size() > 2) return false;
  for (const int64_t one : list) {
    if (one < least || one >= int64_t{1} << 30) return false;
  }
  pair[0] = static_cast<int>(list.front()), pair[1] = static_cast<int>(list.back());
  return true;
}

// From kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override on, for an image: false where PyTorch would
// take issue. `size` is that of the result.
bool read_windows(c10::ArrayRef<IValue> given, const Tensor& image, PoolParams& p, std::array<int64_t, 2>& size) {
  if (image.dim() != 4 || !kernel_dtype(image.scalar_type()) || image.layout() != c10::kStrided ||
      image.size(1) * image.size(2) * image.size(3) == 0)
    return false;
  const bool default_stride = given[1].isIntList() && given[1].toIntVector().empty();
  if (!read_pair(given[0], 1, p.kernel) || !read_pair(given[default_stride ? 0 : 1], 1, p.stride)) return false;
  if (!read_pair(given[2], 0, p.padding) || (!given[5].isNone() && given[5].toInt() == 0)) return false;
  p.counts_padding = given[4].toBool();
  p.divisor = given[5].isNone() ? 0 : static_cast<double>(given[5].toInt());
  for (int d = 0; d < 2; ++d) {
    const int64_t in = image.size(2 + d), padding = p.padding[d], stride = p.stride[d];
    const int64_t reach = in + 2 * padding - p.kernel[d];
    if (2 * padding > p.kernel[d] || reach < 0 || in >= int64_t{1} << 30) return false;
    size[d] = (given[3].toBool() ? ceil_div(reach, stride) : reach / stride) + 1;
    if ((size[d] - 1) * stride >= in + padding) --size[d];  // the last window begins within the image
    p.image[d] = static_cast<int>(in);
  }
  return true;
}

void launch(const std::string& kernel, PoolParams& p, const Tensor& in, const Tensor& out) {
  if (out.numel() == 0) return;
  p.in = in.const_data_ptr(), p.out = out.mutable_data_ptr();
  p.in_batch = in.stride(0), p.in_channel = in.stride(1);
  p.results = out.numel(), p.channels = static_cast<int>(out.size(1)), p.channels_last = !out.is_contiguous();
  for (int d = 0; d < 2; ++d) {
    p.in_axis[d] = in.stride(2 + d);
    p.in_size[d] = static_cast<int>(in.size(2 + d)), p.out_size[d] = static_cast<int>(out.size(2 + d));
  }
  runtime::launch(kernel + kernel_dtype(out.scalar_type()), out.device(), {ceil_div(p.results, kPoolThreads), kPoolThreads, 0},
                  &p);
}

// (self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
bool avg_pool2d(Stack* stack) {
  const auto given = torch::jit::last(*stack, 7);
  const Tensor self = given[0].toTensor(), image = self.dim() == 3 ? self.unsqueeze(0) : self;
  PoolParams p{};
  std::array<int64_t, 2> size{};
  if (!read_windows(given.slice(1), image, p, size)) return false;
  const c10::DeviceGuard guard(self.device());
  const Tensor out = at::empty({image.size(0), image.size(1), size[0], size[1]}, image.options(), image.suggest_memory_format());
  launch("compat_pool_mean_", p, image, out);
  give(stack, 7, {self.dim() == 3 ? out.squeeze(0) : out});
  return true;
}

// (grad_output, self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
bool avg_pool2d_backward(Stack* stack) {
  const auto given = torch::jit::last(*stack, 8);
  const Tensor grad = given[0].toTensor(), self = given[1].toTensor(), image = self.dim() == 3 ? self.unsqueeze(0) : self;
  PoolParams p{};
  std::array<int64_t, 2> size{};
  if (grad.dim() != self.dim() || grad.scalar_type() != self.scalar_type()) return false;
  if (!read_windows(given.slice(2), image, p, size)) return false;
  const Tensor from = grad.dim() == 3 ? grad.unsqueeze(0) : grad;
  if (from.sizes() != at::IntArrayRef({image.size(0), image.size(1), size[0], size[1]})) return false;
  const c10::DeviceGuard guard(self.device());
  const Tensor out = at::empty(image.sizes(), image.options(), image.suggest_memory_format());
  launch("compat_pool_mean_grad_", p, from, out);
  give(stack, 8, {self.dim() == 3 ? out.squeeze(0) : out});
  return true;
}

const OwnKernel forward{"aten::avg_pool2d", avg_pool2d}, backward{"aten::avg_pool2d_backward", avg_pool2d_backward};

}  // namespace
}  // namespace blackwell_compat
