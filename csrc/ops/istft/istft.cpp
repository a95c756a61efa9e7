// istft_fp32: schema, checks, meta, autograd, autocast, every registration. It computes in istft_cpu.cpp and
// istft_cuda.cpp.
#include "ops/istft/istft.h"

#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using OptInt = std::optional<int64_t>;
using OptSymInt = std::optional<c10::SymInt>;
using OptBool = std::optional<bool>;
using Signature = Tensor(const Tensor&, int64_t, OptInt, OptInt, const OptTensor&, bool, bool, OptBool, OptSymInt, bool);
using BackwardSignature = Tensor(const Tensor&, const Tensor&, c10::SymInt, int64_t, int64_t, double, bool, bool);

Tensor call(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
            bool normalized, OptBool onesided, OptSymInt length, bool return_complex) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::istft_fp32", "").typed<Signature>();
  return op.call(input, n_fft, hop_length, win_length, window, center, normalized, onesided, std::move(length), return_complex);
}

Tensor call_backward(const Tensor& grad, const Tensor& window, c10::SymInt n_frames, int64_t hop_length, int64_t start,
                     double scale, bool onesided, bool complex_output) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::istft_fp32_backward", "").typed<BackwardSignature>();
  return op.call(grad, window, std::move(n_frames), hop_length, start, scale, onesided, complex_output);
}

// The arguments after every check, with torch's defaults filled in.
struct Plan {
  int64_t n_fft, hop, win_length;
  Trim trim;           // what frames reach
  c10::SymInt beyond;  // zeros after it
  at::ScalarType dtype;
  bool onesided;
  double scale;
};

Plan make_plan(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
               bool normalized, OptBool onesided, const OptSymInt& length, bool return_complex) {
  BC_CHECK("istft_fp32", !window || window->device() == input.device(),
           "istft input and window must be on the same device but got self on ", input.device(), " and window on ",
           window->device());
  const int64_t hop = hop_length.value_or(n_fft / 4), width = win_length.value_or(n_fft);
  BC_CHECK("istft_fp32", input.is_complex(),
           "istft requires a complex-valued input tensor matching the output from stft with return_complex=True.");
  const int64_t dim = input.dim();
  TORCH_CHECK_INDEX(dim >= 2, "istft_fp32: input must be (bins, frames) or (B, bins, frames): Dimension out of range (expected ",
                    "to be in range of [", -dim - 1, ", ", dim, "], but got ", -dim - 2, ")");
  BC_CHECK("istft_fp32", input.sym_numel() != 0, "input tensor cannot be empty, got ", input.sym_sizes());
  BC_CHECK("istft_fp32", dim <= 3, "expected a tensor with 3 or 4 dimensions, but got ", dim + 1,
           " (counting real and imaginary part); input is ", input.sym_sizes());
  const c10::SymInt bins = input.sym_size(-2), n_frames = input.sym_size(-1);
  const bool one = onesided.value_or(bins != n_fft);
  BC_CHECK("istft_fp32", bins == (one ? n_fft / 2 + 1 : n_fft),
           "expected the frequency dimension (3rd to the last) of the input tensor to match ", one ? "n_fft / 2 + 1" : "n_fft",
           " when onesided=", one ? "True" : "False", ", but got ", bins, "; n_fft is ", n_fft);
  BC_CHECK("istft_fp32", 0 < hop && hop <= width, "expected 0 < hop_length <= win_length, got ", hop, " and ", width);
  BC_CHECK("istft_fp32", 0 < width && width <= n_fft, "expected 0 < win_length <= n_fft, got ", width, " and ", n_fft);
  BC_CHECK("istft_fp32", !window || (window->dim() == 1 && window->sym_size(0) == width),
           "Invalid window shape. window has to be 1D and length of `win_length`, which is ", width, ", got ",
           window->sym_sizes());
  BC_CHECK("istft_fp32", !return_complex || !one, "Cannot have onesided output if window or input is complex");
  BC_CHECK("istft_fp32", return_complex || !window || !window->is_complex(),
           "Complex windows are incompatible with return_complex=False");

  const c10::SymInt total = (n_frames - 1) * hop + n_fft;
  const int64_t start = center ? n_fft / 2 : 0;
  c10::SymInt end = length ? *length + start : center ? c10::SymInt(start == 0 ? 0 : total - start) : total;
  if (end < 0) end = end + total;  // as a slice of Python
  const c10::SymInt kept = (end < total ? end : total) - start;
  BC_CHECK("istft_fp32", kept > 0,
           "no sample is left: min(): Expected reduction dim to be specified for input.numel() == 0; the frames make ", total,
           " samples, of which those from ", start, " to ", end, " are kept");
  return {n_fft,
          hop,
          width,
          {start, kept},
          end > total ? end - total : c10::SymInt(0),
          spectral_dtype(input, window),
          one,
          1 / (normalized ? std::sqrt(static_cast<double>(n_fft)) : static_cast<double>(n_fft))};
}

Tensor to_plan(const Tensor& input, const Plan& plan) {
  const Tensor x = input.to(at::toComplexType(plan.dtype));
  return x.dim() == 2 ? x.unsqueeze(0) : x;
}

Tensor prepared_window_of(const Tensor& input, const OptTensor& window, const Plan& plan) {
  return prepared_window(input, window, plan.win_length, plan.n_fft, 1, plan.dtype);
}

Tensor shaped(const Tensor& signal, const Tensor& input, const Plan& plan) {
  const Tensor y = plan.beyond > 0 ? at::constant_pad_nd_symint(signal, {c10::SymInt(0), plan.beyond}) : signal;
  return input.dim() == 2 ? y.squeeze(0) : y;
}

void warn_if_short(const Plan& plan) {
  if (plan.beyond > 0) {
    TORCH_WARN(
        "istft_fp32: The length of signal is shorter than the length parameter. Result is being padded with zeros in the tail. "
        "Please check your center and hop_length settings.");
  }
}

Tensor envelope_aten(const Tensor& window, int64_t hop, const c10::SymInt& n_frames, const Trim& trim) {
  const c10::SymInt n_fft = window.sym_size(0), total = (n_frames - 1) * hop + n_fft;
  const Tensor frames = (window * window).expand_symint({c10::SymInt(1), n_frames, n_fft});
  return at::unfold_backward_symint(frames, {c10::SymInt(1), total}, 1, window.size(0), hop)
      .narrow_symint(1, trim.start, trim.length);
}

void check_envelope(const Tensor& envelope) {
  const Tensor low = envelope.detach().abs().min().lt(1e-11);
  if (low.key_set().has(c10::DispatchKey::Python)) {  // traced: no value yet
    at::_assert_async(low.logical_not(), "istft_fp32: window overlap add min: 1");
  } else {
    BC_CHECK("istft_fp32", !low.item<bool>(), "window overlap add min: 1; the frames leave samples that no window reaches");
  }
}

Tensor composite(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
                 bool normalized, OptBool onesided, OptSymInt length, bool return_complex) {
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, normalized, onesided, length, return_complex);
  const Tensor w = full_window(window, plan.win_length, n_fft, 1, input.options().dtype(plan.dtype));
  const Tensor envelope = envelope_aten(w, plan.hop, input.sym_size(-1), plan.trim);
  check_envelope(envelope);
  warn_if_short(plan);
  const Tensor y = synthesise_aten(to_plan(input, plan), w * plan.scale, plan.hop, plan.trim, return_complex);
  return shaped(y / envelope, input, plan);
}

Tensor explicit_composite(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window,
                          bool center, bool normalized, OptBool onesided, OptSymInt length, bool return_complex) {
  return composite(input, n_fft, hop_length, win_length, window, center, normalized, onesided, std::move(length), return_complex)
      .contiguous();
}

Tensor cpu(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
           bool normalized, OptBool onesided, OptSymInt length, bool return_complex) {
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, normalized, onesided, length, return_complex);
  if (return_complex) {
    return explicit_composite(input, n_fft, hop_length, win_length, window, center, normalized, onesided, std::move(length),
                              return_complex);
  }
  warn_if_short(plan);
  const Tensor w = prepared_window_of(input, window, plan);
  const Tensor spectrum = to_plan(input, plan).narrow(1, 0, n_fft / 2 + 1);
  return shaped(synthesise_cpu(spectrum, w * plan.scale, plan.hop, plan.trim, 1, w), input, plan);
}

Tensor cuda(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
            bool normalized, OptBool onesided, OptSymInt length, bool return_complex) {
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, normalized, onesided, length, return_complex);
  if (!transforms_on_card(input, window, n_fft)) {
    return explicit_composite(input, n_fft, hop_length, win_length, window, center, normalized, onesided, std::move(length),
                              return_complex);
  }
  check_envelope_cuda(window, plan.win_length, n_fft, plan.hop, input.size(-1), plan.trim);
  warn_if_short(plan);
  const Synthesis synthesis{plan.scale, 1, !return_complex, return_complex, true};
  const Tensor x = converted_cuda(input.dim() == 2 ? input.unsqueeze(0) : input, at::toComplexType(plan.dtype));
  const Trim all{plan.trim.start, plan.trim.length + plan.beyond};
  const Tensor y = synthesise_cuda(x, prepared_window_of(input, window, plan), plan.hop, all, synthesis);
  return input.dim() == 2 ? y.squeeze(0) : y;
}

Tensor meta(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
            bool normalized, OptBool onesided, OptSymInt length, bool return_complex) {
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, normalized, onesided, length, return_complex);
  const auto dtype = return_complex ? at::toComplexType(plan.dtype) : plan.dtype;
  const c10::SymInt samples = plan.trim.length + plan.beyond;
  if (input.dim() == 2) return at::empty_symint({samples}, input.options().dtype(dtype));
  return at::empty_symint({input.sym_size(0), samples}, input.options().dtype(dtype));
}

// The bins of a two-sided spectrum that a real signal does not need get no gradient.
Tensor all_bins(const Tensor& spectrum, int64_t n_fft) {
  return at::constant_pad_nd(spectrum, {0, 0, 0, n_fft - spectrum.size(1)});
}

// Of the part that frames reach, (B, kept), the adjoint: divide by the envelope, cut into frames, window, transform.
Tensor backward_aten(const Tensor& grad, const Tensor& window, c10::SymInt n_frames, int64_t hop, int64_t start, double scale,
                     bool onesided, bool complex_output) {
  const int64_t n_fft = window.size(0);
  const Tensor scaled = grad / envelope_aten(window, hop, n_frames, {start, grad.sym_size(1)}).conj();
  const Framing framing{hop, start, Pad::kConstant, std::move(n_frames)};
  if (complex_output) return analyse_aten(scaled, (window * scale).conj(), framing, false);
  // A bin that is not at the edges stands for two
  Tensor share = at::full({n_fft / 2 + 1, 1}, 2, window.options());
  share.narrow(0, 0, 1).fill_(1);
  if (n_fft % 2 == 0) share.narrow(0, -1, 1).fill_(1);
  const Tensor spectrum = analyse_aten(scaled, window * scale, framing, true) * share;
  return onesided ? spectrum : all_bins(spectrum, n_fft);
}

Tensor backward(const Tensor& grad, const Tensor& window, c10::SymInt n_frames, int64_t hop, int64_t start, double scale,
                bool onesided, bool complex_output) {
  return frames_major(backward_aten(grad, window, std::move(n_frames), hop, start, scale, onesided, complex_output));
}

Tensor backward_cpu(const Tensor& grad, const Tensor& window, c10::SymInt n_frames, int64_t hop, int64_t start, double scale,
                    bool onesided, bool complex_output) {
  if (complex_output) return backward(grad, window, std::move(n_frames), hop, start, scale, onesided, complex_output);
  const Tensor scaled = grad * inverse_envelope_cpu(window, hop, n_frames.expect_int(), {start, grad.size(1)});
  const Framing framing{hop, start, Pad::kConstant, std::move(n_frames)};
  const Tensor spectrum = analyse_cpu(scaled.contiguous(), window * (2 * scale), framing, 0.5).transpose(1, 2);
  return onesided ? spectrum : frames_major(all_bins(spectrum, window.size(0)));
}

Tensor backward_cuda(const Tensor& grad, const Tensor& window, c10::SymInt n_frames, int64_t hop, int64_t start, double scale,
                     bool onesided, bool complex_output) {
  if (!transforms_on_card(grad, window, window.size(0))) {
    return backward(grad, window, std::move(n_frames), hop, start, scale, onesided, complex_output);
  }
  const int64_t n_fft = window.size(0);
  const Tensor w = full_window_cuda(window, n_fft, n_fft, 1, window.options());
  const Tensor scaled = divide_by_envelope_cuda(grad, w, hop, n_frames.expect_int(), start);
  const Framing framing{hop, start, Pad::kConstant, std::move(n_frames)};
  const Bins bins = complex_output ? Bins::kAll : onesided ? Bins::kOneSided : Bins::kZeroAbove;
  // A bin that is not at the edges stands for two
  return analyse_cuda(scaled, w, framing, bins, complex_output ? scale : 2 * scale, 0.5).transpose(1, 2);
}

const OwnKernel own{"blackwell_compat::istft_fp32", c10::KernelFunction::makeFromUnboxedRuntimeFunction(&cuda)};
const OwnKernel own_backward{"blackwell_compat::istft_fp32_backward",
                             c10::KernelFunction::makeFromUnboxedRuntimeFunction(&backward_cuda)};

Tensor backward_meta(const Tensor& grad, const Tensor& window, c10::SymInt n_frames, int64_t, int64_t, double, bool onesided,
                     bool) {
  const int64_t n_fft = window.size(0);
  return empty_frames_major(grad.sym_size(0), onesided ? n_fft / 2 + 1 : n_fft, n_frames,
                            grad.options().dtype(at::toComplexType(grad.scalar_type())));
}

// From a complex (B, bins, frames) in the dtype of the arithmetic to the samples that frames reach.
struct IstftFunction : torch::autograd::Function<IstftFunction> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& input, const OptTensor& window,
                        const Tensor& prepared_window, const Plan& plan, bool center, bool normalized, bool return_complex) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({prepared_window});
    ctx->saved_data["n_frames"] = input.sym_size(2);
    ctx->saved_data["hop"] = plan.hop;
    ctx->saved_data["start"] = plan.trim.start;
    ctx->saved_data["scale"] = plan.scale;
    ctx->saved_data["onesided"] = plan.onesided;
    ctx->saved_data["complex"] = return_complex;
    return call(input, plan.n_fft, plan.hop, plan.win_length, window, center, normalized, plan.onesided, plan.trim.length,
                return_complex);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, torch::autograd::variable_list grads) {
    const auto compute = at::GradMode::is_enabled() ? backward_aten : call_backward;
    const Tensor dx =
        compute(grads[0], ctx->get_saved_variables()[0], ctx->saved_data["n_frames"].toSymInt(), ctx->saved_data["hop"].toInt(),
                ctx->saved_data["start"].toInt(), ctx->saved_data["scale"].toDouble(), ctx->saved_data["onesided"].toBool(),
                ctx->saved_data["complex"].toBool());
    return {dx, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor autograd(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
                bool normalized, OptBool onesided, OptSymInt length, bool return_complex) {
  const Tensor& w = value_or_undefined(window);
  if (wants_composite({input, w}) || wants_grad({w})) {
    return composite(input, n_fft, hop_length, win_length, window, center, normalized, onesided, std::move(length),
                     return_complex);
  }
  if (!wants_grad({input})) {
    at::AutoDispatchBelowADInplaceOrView below;
    return call(input, n_fft, hop_length, win_length, window, center, normalized, onesided, std::move(length), return_complex);
  }
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, normalized, onesided, length, return_complex);
  warn_if_short(plan);
  const Tensor y = IstftFunction::apply(to_plan(input, plan), window, prepared_window_of(input, window, plan), plan, center,
                                        normalized, return_complex);
  return shaped(y, input, plan);
}

template <c10::DeviceType device>
Tensor autocast(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
                bool normalized, OptBool onesided, OptSymInt length, bool return_complex) {
  using Cast = Autocast<device>;
  c10::impl::ExcludeDispatchKeyGuard off(Cast::key);
  return call(Cast::full(input), n_fft, hop_length, win_length, Cast::full(window), center, normalized, onesided,
              std::move(length), return_complex);
}

}  // namespace

Tensor synthesise_aten(const Tensor& spectrum, const Tensor& window, int64_t hop, const Trim& trim, bool complex_output) {
  const int64_t n_fft = window.size(0);
  // MKL in torch 2.6 takes no values of stride 0, which the gradient of a sum is
  const Tensor bins = spectrum.transpose(1, 2).contiguous();
  const Tensor frames =
      complex_output ? at::_fft_c2c(bins, {2}, 0, false) : at::_fft_c2r(bins.narrow(2, 0, n_fft / 2 + 1), {2}, 0, n_fft);
  const c10::SymInt total = (spectrum.sym_size(2) - 1) * hop + n_fft;
  const Tensor signal = at::unfold_backward_symint(frames * window, {spectrum.sym_size(0), total}, 1, n_fft, hop);
  return signal.narrow_symint(1, trim.start, trim.length);
}

TORCH_LIBRARY_FRAGMENT(blackwell_compat, m) {
  m.def(
      "istft_fp32(Tensor input, int n_fft, int? hop_length=None, int? win_length=None, Tensor? window=None, bool center=True, "
      "bool normalized=False, bool? onesided=None, SymInt? length=None, bool return_complex=False) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "istft_fp32_backward(Tensor grad, Tensor window, SymInt n_frames, int hop_length, int start, float scale, bool onesided, "
      "bool complex_output) -> Tensor",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(blackwell_compat, CPU, m) {
  m.impl("istft_fp32", cpu);
  m.impl("istft_fp32_backward", backward_cpu);
}
TORCH_LIBRARY_IMPL(blackwell_compat, CUDA, m) {
  m.impl("istft_fp32", cuda);
  m.impl("istft_fp32_backward", backward_cuda);
}
TORCH_LIBRARY_IMPL(blackwell_compat, CompositeExplicitAutograd, m) {
  m.impl("istft_fp32", explicit_composite);
  m.impl("istft_fp32_backward", backward);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Meta, m) {
  m.impl("istft_fp32", meta);
  m.impl("istft_fp32_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Autograd, m) { m.impl("istft_fp32", autograd); }
TORCH_LIBRARY_IMPL(blackwell_compat, FuncTorchBatchedDecomposition, m) { m.impl("istft_fp32", composite); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCPU, m) { m.impl("istft_fp32", autocast<c10::kCPU>); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCUDA, m) { m.impl("istft_fp32", autocast<c10::kCUDA>); }

}  // namespace blackwell_compat
