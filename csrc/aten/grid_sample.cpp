// grid_sampler_2d, bilinear and nearest.
#include "kernels/grid_sample.cuh"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "common/ceil_div.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;

// (input, grid, interpolation_mode, padding_mode, align_corners)
bool grid_sample(torch::jit::Stack* stack) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const auto given = torch::jit::last(*stack, 5);
  const Tensor in = given[0].toTensor(), grid = given[1].toTensor();
  const int64_t mode = given[2].toInt(), outside = given[3].toInt();
  const char* const dtype = kernel_dtype(in.scalar_type());
  if (!dtype || in.dim() != 4 || grid.dim() != 4 || in.scalar_type() != grid.scalar_type() || !grid.is_cuda() ||
      in.layout() != c10::kStrided || grid.layout() != c10::kStrided || in.size(0) != grid.size(0) || grid.size(3) != 2 ||
      in.numel() == 0 || in.size(2) >= kMost || in.size(3) >= kMost || mode < 0 || mode > 1 || outside < 0 || outside > 2) {
    return false;
  }
  const Tensor out = at::empty({in.size(0), in.size(1), grid.size(1), grid.size(2)}, in.options());
  GridSampleParams p{};
  p.in = in.const_data_ptr(), p.grid = grid.const_data_ptr(), p.out = out.mutable_data_ptr();
  p.in_batch = in.stride(0), p.in_channel = in.stride(1), p.grid_batch = grid.stride(0), p.grid_part = grid.stride(3);
  p.results = out.numel(), p.channels = static_cast<int>(in.size(1));
  for (int d = 0; d < 2; ++d) {
    p.in_axis[d] = in.stride(2 + d), p.grid_axis[d] = grid.stride(1 + d);
    p.in_size[d] = static_cast<int>(in.size(2 + d)), p.out_size[d] = static_cast<int>(out.size(2 + d));
  }
  p.nearest = mode == 1, p.corners = given[4].toBool(), p.outside = static_cast<Outside>(outside);
  if (p.results != 0) {
    const c10::DeviceGuard guard(in.device());
    runtime::launch(std::string("compat_grid_sample_") + dtype, in.device(),
                    {ceil_div(p.results, kGridSampleThreads), kGridSampleThreads, 0}, &p);
  }
  give(stack, 5, {out});
  return true;
}

const OwnKernel images("aten::grid_sampler_2d", &grid_sample);

}  // namespace
}  // namespace blackwell_compat
