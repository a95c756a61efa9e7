// istft_fp32 on a card that this package's kernels serve: each block makes a stretch of samples from the frames that reach it.
#include <c10/core/DeviceGuard.h>

#include "common/fft_cuda.h"
#include "common/kernel_dtype.h"
#include "kernels/istft.cuh"
#include "kernels/spectral.cuh"
#include "ops/istft/istft.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

constexpr int64_t kStretchBytes = 12 << 10;  // of a block's sums, where that is more than a frame
constexpr int64_t kLeastStretch = 64;

// Samples of the result that a block makes: many to transform few frames twice, few to make every multiprocessor busy.
int64_t stretch_of(const Tensor& out, int64_t n_fft) {
  const int64_t least = std::max(kLeastStretch, n_fft), most = std::max<int64_t>(least, kStretchBytes / out.element_size());
  return std::clamp(ceil_div(out.numel(), parts_to_fill(out.device())), least, most);
}

}  // namespace

Tensor synthesise_cuda(const Tensor& spectrum, const Tensor& window, int64_t hop, const Trim& trim, const Synthesis& synthesis) {
  const c10::DeviceGuard guard(spectrum.device());
  const auto device = spectrum.device();
  const auto arithmetic = window.scalar_type();
  const int64_t n_fft = window.size(0), length = trim.length.expect_int();
  const auto dtype = synthesis.complex_output ? at::toComplexType(arithmetic) : arithmetic;
  const Tensor out = at::empty({spectrum.size(0), length}, window.options().dtype(dtype));
  if (out.numel() == 0) return out;

  const int64_t stretch = stretch_of(out, n_fft), sums = stretch * out.element_size();
  const FftLaunch launch = fft_launch(n_fft, synthesis.one_sided, arithmetic, device, ceil_div(stretch + n_fft, hop), sums);
  IstftParams p{};
  p.spectrum = spectrum.const_data_ptr(), p.window = window.const_data_ptr(), p.out = out.mutable_data_ptr();
  p.row_stride = spectrum.stride(0), p.bin_stride = spectrum.stride(1), p.frame_stride = spectrum.stride(2);
  p.frames_adjoin = p.frame_stride < p.bin_stride;
  p.n_frames = spectrum.size(2), p.hop = hop, p.start = trim.start, p.length = length;
  p.n_fft = static_cast<int>(n_fft), p.stretch = static_cast<int>(stretch);
  p.by_hop = divisor_of(static_cast<unsigned>(std::min<int64_t>(hop, kFarHop)));
  p.stretches_of_row = ceil_div(length, stretch), p.stretches = spectrum.size(0) * p.stretches_of_row;
  p.scale = synthesis.scale, p.edge = synthesis.edge, p.one_sided = synthesis.one_sided;
  p.is_complex = synthesis.complex_output, p.divides = synthesis.divides;
  p.fft = launch.fft;
  const int64_t blocks = launch.resident_blocks(p.stretches, device);
  const Tensor workspace = launch.workspace(blocks, device);
  p.workspace = launch.large ? workspace.mutable_data_ptr() : nullptr;
  const std::string name = std::string(launch.large ? "compat_istft_large_" : "compat_istft_") + kernel_dtype(arithmetic);
  runtime::launch(name, device, {blocks, kFftThreads, launch.shared_bytes()}, &p);
  return out;
}

Tensor divide_by_envelope_cuda(const Tensor& grad, const Tensor& window, int64_t hop, int64_t n_frames, int64_t start) {
  const c10::DeviceGuard guard(grad.device());
  const Tensor out = at::empty(grad.sizes(), grad.options());
  if (out.numel() == 0) return out;
  DivideParams p{};
  p.from = grad.const_data_ptr(), p.window = window.const_data_ptr(), p.to = out.mutable_data_ptr();
  p.row_stride = grad.stride(0), p.stride = grad.stride(1), p.rows = grad.size(0), p.length = grad.size(1);
  p.start = start, p.hop = hop, p.n_frames = n_frames, p.n_fft = window.size(0), p.parts = grad.is_complex() ? 2 : 1;
  const std::string name = std::string("compat_spectral_divide_") + kernel_dtype(window.scalar_type());
  runtime::launch(name, grad.device(), {ceil_div(out.numel() * p.parts, kSpectralThreads), kSpectralThreads, 0}, &p);
  return out;
}

}  // namespace blackwell_compat
