// Windows over images and volumes.
#include "aten/pool.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "common/ceil_div.h"
#include "common/kernel_dtype.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;

constexpr int64_t kMost = int64_t{1} << 30;

// Into the last `axes` of three
bool read_list(const IValue& value, size_t axes, int64_t least, int (&to)[3]) {
  if (!value.isIntList()) return false;
  const auto list = value.toIntVector();
  if (list.size() != 1 && list.size() != axes) return false;
  for (size_t i = 0; i < axes; ++i) {
    const int64_t one = list[list.size() == 1 ? 0 : i];
    if (one < least || one >= kMost) return false;
    to[3 - axes + i] = static_cast<int>(one);
  }
  return true;
}

bool begin(const Tensor& self, size_t axes, PoolParams& p) {
  const auto dims = static_cast<size_t>(self.dim());
  if ((dims != axes + 1 && dims != axes + 2) || !kernel_dtype(self.scalar_type()) || self.layout() != c10::kStrided) return false;
  int64_t volume = 1;
  for (size_t d = 0; d < 3; ++d) {
    const int64_t size = d + axes < 3 ? 1 : self.size(static_cast<int64_t>(dims + d) - 3);
    if (size == 0 || size >= kMost) return false;
    p.volume[d] = static_cast<int>(size), volume *= size;
    p.kernel[d] = p.stride[d] = p.dilation[d] = 1, p.padding[d] = 0;
  }
  return self.size(static_cast<int64_t>(dims - axes) - 1) != 0 && volume < kMost;
}

std::vector<int64_t> leading_sizes(const Tensor& self, size_t axes) {
  return self.sizes().slice(0, static_cast<size_t>(self.dim()) - axes).vec();
}

// (batch, channel, depth, height, width)
Tensor as_volume(const Tensor& tensor, size_t axes) {
  Tensor volume = static_cast<size_t>(tensor.dim()) == axes + 1 ? tensor.unsqueeze(0) : tensor;
  while (volume.dim() < 5) volume = volume.unsqueeze(2);
  return volume;
}

}  // namespace

std::vector<int64_t> pooled_sizes(const Tensor& self, size_t axes, const Windows& windows, PoolParams& p) {
  if (!begin(self, axes, p)) return {};
  const bool default_stride = windows.stride.isIntList() && windows.stride.toIntVector().empty();
  if (!read_list(windows.kernel, axes, 1, p.kernel) || !read_list(windows.padding, axes, 0, p.padding) ||
      !read_list(default_stride ? windows.kernel : windows.stride, axes, 1, p.stride) ||
      (windows.dilation && !read_list(*windows.dilation, axes, 1, p.dilation))) {
    return {};
  }
  auto sizes = leading_sizes(self, axes);
  for (size_t d = 3 - axes; d < 3; ++d) {
    const int64_t in = p.volume[d], padding = p.padding[d], stride = p.stride[d];
    const int64_t reach = in + 2 * padding - int64_t{p.dilation[d]} * (p.kernel[d] - 1) - 1;
    if (2 * padding > p.kernel[d] || reach < 0 || p.dilation[d] > in) return {};
    int64_t size = (windows.ceil_mode ? ceil_div(reach, stride) : reach / stride) + 1;
    if ((size - 1) * stride >= in + padding) --size;  // the last window begins within the volume
    sizes.push_back(size);
  }
  return sizes;
}

std::vector<int64_t> adaptive_sizes(const Tensor& self, size_t axes, at::IntArrayRef output_size, PoolParams& p) {
  if (!begin(self, axes, p) || output_size.size() != axes) return {};
  p.adaptive = true;
  auto sizes = leading_sizes(self, axes);
  for (const int64_t size : output_size) {
    if (size < 1 || size >= kMost) return {};
    sizes.push_back(size);
  }
  return sizes;
}

std::vector<int64_t> adaptive_sizes_of(const Tensor& grad, const Tensor& self, size_t axes, PoolParams& p) {
  if (grad.dim() != self.dim() || self.dim() < static_cast<int64_t>(axes)) return {};
  return adaptive_sizes(self, axes, grad.sizes().slice(static_cast<size_t>(self.dim()) - axes), p);
}

at::MemoryFormat adaptive_format(const Tensor& self, size_t axes) {
  return axes == 2 ? self.suggest_memory_format() : at::MemoryFormat::Contiguous;
}

void launch_pool(const std::string& kernel, PoolParams& p, size_t axes, const Tensor& in, const Tensor& out,
                 const Tensor& places) {
  if (out.numel() == 0) return;
  const Tensor from = as_volume(in, axes), to = as_volume(out, axes);
  p.in = in.const_data_ptr(), p.out = out.mutable_data_ptr();
  p.places = places.defined() ? static_cast<long long*>(places.mutable_data_ptr()) : nullptr;
  p.in_batch = from.stride(0), p.in_channel = from.stride(1);
  p.results = to.numel(), p.channels = static_cast<int>(to.size(1)), p.channels_last = !to.is_contiguous();
  for (int d = 0; d < 3; ++d) {
    p.in_axis[d] = from.stride(2 + d);
    p.in_size[d] = static_cast<int>(from.size(2 + d)), p.out_size[d] = static_cast<int>(to.size(2 + d));
  }
  const c10::DeviceGuard guard(out.device());
  runtime::launch("compat_pool_" + kernel + "_" + kernel_dtype(out.scalar_type()), out.device(),
                  {ceil_div(p.results, kPoolThreads), kPoolThreads, 0}, &p);
}

}  // namespace blackwell_compat
