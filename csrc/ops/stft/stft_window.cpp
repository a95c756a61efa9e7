// The windows of stft_fp32 and istft_fp32, by ATen's operators, and stft_fp32_window, which a card makes them by.
#include "common/own_kernels.h"
#include "ops/stft/stft.h"

namespace blackwell_compat {
namespace {

using WindowSignature = Tensor(const Tensor&, const OptTensor&, int64_t, int64_t, double, at::ScalarType);

Tensor prepare(const Tensor& input, const OptTensor& window, int64_t win_length, int64_t n_fft, double scale,
               at::ScalarType dtype) {
  return full_window(window, win_length, n_fft, scale, input.options().dtype(dtype)).contiguous();
}

Tensor prepare_cuda(const Tensor& input, const OptTensor& window, int64_t win_length, int64_t n_fft, double scale,
                    at::ScalarType dtype) {
  if (!transforms_on_card(input, window, n_fft)) return prepare(input, window, win_length, n_fft, scale, dtype);
  return full_window_cuda(window, win_length, n_fft, scale, input.options().dtype(dtype));
}

const OwnKernel own_window{"blackwell_compat::stft_fp32_window",
                           c10::KernelFunction::makeFromUnboxedRuntimeFunction(&prepare_cuda)};

}  // namespace

Tensor full_window(const OptTensor& window, int64_t win_length, int64_t n_fft, double scale, const at::TensorOptions& options) {
  const auto dtype = c10::typeMetaToScalarType(options.dtype());
  Tensor w = window ? window->to(window->is_complex() ? at::toComplexType(dtype) : dtype) : at::ones({win_length}, options);
  if (scale != 1) w = w * scale;
  const int64_t left = (n_fft - win_length) / 2;
  return win_length == n_fft ? w : at::constant_pad_nd(w, {left, n_fft - win_length - left});
}

Tensor prepared_window(const Tensor& input, const OptTensor& window, int64_t win_length, int64_t n_fft, double scale,
                       at::ScalarType dtype) {
  if (!input.is_cuda()) return full_window(window, win_length, n_fft, scale, input.options().dtype(dtype));
  const bool ready = window && win_length == n_fft && scale == 1 && window->scalar_type() == dtype;
  if (ready && window->is_contiguous()) return *window;
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::stft_fp32_window", "").typed<WindowSignature>();
  const at::AutoDispatchBelowADInplaceOrView below;
  return op.call(input, window, win_length, n_fft, scale, dtype);
}

TORCH_LIBRARY_FRAGMENT(blackwell_compat, m) {
  m.def("stft_fp32_window(Tensor input, Tensor? window, int win_length, int n_fft, float scale, ScalarType dtype) -> Tensor",
        {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(blackwell_compat, CUDA, m) { m.impl("stft_fp32_window", prepare_cuda); }
TORCH_LIBRARY_IMPL(blackwell_compat, CompositeExplicitAutograd, m) { m.impl("stft_fp32_window", prepare); }

}  // namespace blackwell_compat
