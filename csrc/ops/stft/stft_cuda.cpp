// stft_fp32 on a card that this package's kernels serve: frames are read where they lie, by blocks that each transform some.
#include <c10/core/DeviceGuard.h>

#include "common/fft_cuda.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "common/scalar_kind.h"
#include "kernels/spectral.cuh"
#include "ops/stft/stft.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

constexpr uintptr_t kWindowAlignment = 16;  // bytes that kernels read at a time

ScalarKind kind_of(at::ScalarType dtype) {
  const auto kind = stored_kind(dtype);
  TORCH_CHECK_NOT_IMPLEMENTED(kind, "stft_fp32: window must be of floating point values or integers, got ", dtype);
  return *kind;
}

// To memory of `size` values: `width` values of `from`, `stride` apart, in the middle. Null: ones.
void fill(const void* from, ScalarKind kind, int64_t width, int64_t stride, double scale, int64_t size, void* to,
          at::ScalarType dtype, c10::Device device) {
  FillParams p{};
  p.from = from, p.kind = kind, p.stride = stride, p.width = width, p.left = (size - width) / 2;
  p.to = to, p.size = size, p.scale = scale;
  const std::string name = std::string("compat_spectral_fill_") + kernel_dtype(dtype);
  runtime::launch(name, device, {ceil_div(size, kSpectralThreads), kSpectralThreads, 0}, &p);
}

}  // namespace

bool transforms_on_card(const Tensor& input, const OptTensor& window, int64_t n_fft) {
  return input.is_cuda() && n_fft <= kMostFftPoints && !(window && window->is_complex()) && kernels_serve(input.device());
}

Tensor full_window_cuda(const OptTensor& window, int64_t win_length, int64_t n_fft, double scale,
                        const at::TensorOptions& options) {
  const bool ready = window && win_length == n_fft && scale == 1 && window->dtype() == options.dtype();
  if (ready && window->is_contiguous() && reinterpret_cast<uintptr_t>(window->const_data_ptr()) % kWindowAlignment == 0) {
    return *window;
  }
  const c10::DeviceGuard guard(options.device());
  const Tensor full = at::empty({n_fft}, options);
  const auto kind = window ? kind_of(window->scalar_type()) : ScalarKind::kFloat;
  fill(window ? window->const_data_ptr() : nullptr, kind, win_length, window ? window->stride(0) : 1, scale, n_fft,
       full.mutable_data_ptr(), full.scalar_type(), options.device());
  return full;
}

Tensor converted_cuda(const Tensor& input, at::ScalarType dtype) {
  if (input.scalar_type() == dtype) return input;
  if (input.numel() == 0 || !input.is_non_overlapping_and_dense()) return input.to(dtype);
  const c10::DeviceGuard guard(input.device());
  const Tensor out = at::empty_strided(input.sizes(), input.strides(), input.options().dtype(dtype));
  const int64_t size = input.numel() * (input.is_complex() ? 2 : 1);
  fill(input.const_data_ptr(), kind_of(c10::toRealValueType(input.scalar_type())), size, 1, 1, size, out.mutable_data_ptr(),
       c10::toRealValueType(dtype), input.device());
  return out;
}

Tensor analyse_cuda(const Tensor& signal, const Tensor& window, const Framing& framing, Bins bins, double scale, double edge) {
  const c10::DeviceGuard guard(signal.device());
  const auto arithmetic = window.scalar_type(), dtype = c10::toRealValueType(signal.scalar_type());
  const int64_t n_fft = window.size(0), n_frames = framing.n_frames.expect_int(), frames = signal.size(0) * n_frames;
  const int64_t n_bins = bins == Bins::kOneSided ? n_fft / 2 + 1 : n_fft;
  const Tensor out = at::empty({signal.size(0), n_frames, n_bins}, window.options().dtype(at::toComplexType(arithmetic)));
  if (frames == 0) return out;

  const int64_t wanted = ceil_div(frames, parts_to_fill(signal.device()));
  const FftLaunch launch = fft_launch(n_fft, !signal.is_complex(), arithmetic, signal.device(), wanted, 0);
  if (dtype != arithmetic && (launch.large || arithmetic == at::kDouble)) {
    const Tensor wide = converted_cuda(signal, signal.is_complex() ? at::toComplexType(arithmetic) : arithmetic);
    return analyse_cuda(wide, window, framing, bins, scale, edge);
  }
  StftParams p{};
  p.signal = signal.const_data_ptr(), p.window = window.const_data_ptr(), p.out = out.mutable_data_ptr();
  p.row_stride = signal.stride(0), p.sample_stride = signal.stride(1), p.length = signal.size(1);
  p.hop = framing.hop, p.pad = framing.pad, p.n_frames = n_frames, p.frames = frames;
  p.n_fft = static_cast<int>(n_fft), p.bins = static_cast<int>(n_bins), p.mode = framing.mode;
  p.is_complex = signal.is_complex(), p.mirrors = bins == Bins::kAll;
  p.fft = launch.fft;
  p.scale = p.fft.turn ? scale / 2 : scale, p.edge = edge;  // taking pairs apart adds two values
  const int64_t blocks = launch.resident_blocks(ceil_div(frames, p.fft.frames), signal.device());
  const Tensor workspace = launch.workspace(blocks, signal.device());
  p.workspace = launch.large ? workspace.mutable_data_ptr() : nullptr;
  const std::string name = std::string(launch.large ? "compat_stft_large_" : "compat_stft_") + kernel_dtype(dtype);
  runtime::launch(name, signal.device(), {blocks, kFftThreads, launch.shared_bytes()}, &p);
  return out;
}

Tensor unpad_cuda(const Tensor& padded, const Framing& framing) {
  const c10::DeviceGuard guard(padded.device());
  UnpadParams p{};
  p.rows = padded.size(0), p.pad = framing.pad, p.length = padded.size(1) - 2 * p.pad;
  const Tensor out = at::empty({p.rows, p.length}, padded.options());
  if (out.numel() == 0) return out;
  p.from = padded.const_data_ptr(), p.to = out.mutable_data_ptr();
  p.parts = padded.is_complex() ? 2 : 1, p.mode = framing.mode;
  const std::string name = std::string("compat_spectral_unpad_") + kernel_dtype(c10::toRealValueType(padded.scalar_type()));
  runtime::launch(name, padded.device(), {ceil_div(out.numel() * p.parts, kSpectralThreads), kSpectralThreads, 0}, &p);
  return out;
}

}  // namespace blackwell_compat
