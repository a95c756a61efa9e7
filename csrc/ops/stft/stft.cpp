// stft_fp32: schema, checks, meta, autograd, autocast, registrations but those of its window. It computes in stft_cpu.cpp and
// stft_cuda.cpp.
#include "ops/stft/stft.h"

#include <ATen/OpMathType.h>

#include "common/own_kernels.h"
#include "ops/istft/istft.h"

namespace blackwell_compat {
namespace {

using Str = c10::string_view;
using OptInt = std::optional<int64_t>;
using OptBool = std::optional<bool>;
using Signature = Tensor(const Tensor&, int64_t, OptInt, OptInt, const OptTensor&, bool, Str, bool, OptBool, OptBool, OptBool);
using BackwardSignature = Tensor(const Tensor&, const Tensor&, c10::SymInt, int64_t, int64_t, Str, bool, bool);

Tensor call(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
            Str pad_mode, bool normalized, OptBool onesided, OptBool return_complex, OptBool align_to_window) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::stft_fp32", "").typed<Signature>();
  return op.call(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided, return_complex,
                 align_to_window);
}

Tensor call_backward(const Tensor& grad, const Tensor& window, c10::SymInt length, int64_t hop_length, int64_t pad, Str pad_mode,
                     bool onesided, bool complex_input) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("blackwell_compat::stft_fp32_backward", "").typed<BackwardSignature>();
  return op.call(grad, window, std::move(length), hop_length, pad, pad_mode, onesided, complex_input);
}

Pad parse_pad(Str mode) {
  if (mode == "constant") return Pad::kConstant;
  if (mode == "reflect") return Pad::kReflect;
  if (mode == "replicate") return Pad::kReplicate;
  if (mode == "circular") return Pad::kCircular;
  TORCH_CHECK_NOT_IMPLEMENTED(false, "stft_fp32: pad_mode must be constant, reflect, replicate or circular: ",
                              "Unrecognised padding mode ", std::string(mode.data(), mode.size()));
}

const char* name_of(Pad mode) {
  switch (mode) {
    case Pad::kReflect:
      return "reflect";
    case Pad::kReplicate:
      return "replicate";
    case Pad::kCircular:
      return "circular";
    case Pad::kConstant:
      break;
  }
  return "constant";
}

void check_padding(const Tensor& input, const Framing& framing) {
  const c10::SymInt length = input.sym_size(-1);
  if (framing.mode == Pad::kReflect) {
    BC_CHECK("stft_fp32", framing.pad < length,
             "Padding size should be less than the corresponding input dimension: n_fft // 2 must be < ", length,
             " (input.size(-1)) for pad_mode='reflect', got ", framing.pad, "; input is ", input.sym_sizes());
  }
  if (framing.mode == Pad::kReplicate) {
    BC_CHECK(
        "stft_fp32", length > 0,
        "Expected 2D or 3D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, but got: ",
        input.sym_sizes());
  }
  if (framing.mode == Pad::kCircular) {
    BC_CHECK("stft_fp32", framing.pad <= length,
             "Padding value causes wrapping around more than once: n_fft // 2 must be <= ", length,
             " (input.size(-1)) for pad_mode='circular', got ", framing.pad, "; input is ", input.sym_sizes());
  }
}

// The arguments after every check, with torch's defaults filled in.
struct Plan {
  int64_t n_fft, win_length;
  Framing framing;
  at::ScalarType dtype;  // real
  bool complex_fft, onesided, return_complex;
  double scale;

  c10::SymInt bins() const { return onesided ? n_fft / 2 + 1 : n_fft; }
};

Plan make_plan(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
               Str pad_mode, bool normalized, OptBool onesided, OptBool return_complex, OptBool align_to_window) {
  BC_CHECK("stft_fp32", !center || !align_to_window, "stft align_to_window should only be set when center = false");
  BC_CHECK("stft_fp32", !window || window->device() == input.device(),
           "stft input and window must be on the same device but got self on ", input.device(), " and window on ",
           window->device());
  const int64_t hop = hop_length.value_or(n_fft / 4), width = win_length.value_or(n_fft);
  const bool complex_fft = input.is_complex() || (window && window->is_complex());
  BC_CHECK("stft_fp32", return_complex || complex_fft,
           "stft requires the return_complex parameter be given for real inputs, and will further require that "
           "return_complex=True in a future PyTorch release.");
  BC_CHECK("stft_fp32", input.is_floating_point() || input.is_complex(),
           "expected a tensor of floating point or complex values, got input of ", input.scalar_type());
  BC_CHECK("stft_fp32", input.dim() == 1 || input.dim() == 2, "expected a 1D or 2D tensor, got input ", input.sym_sizes());
  BC_CHECK("stft_fp32", n_fft > 0, "expected 0 < n_fft < ", input.sym_size(-1), ", but got n_fft=", n_fft);

  Plan plan{n_fft,
            width,
            {hop, 0, Pad::kConstant, 0},
            spectral_dtype(input, window),
            complex_fft,
            onesided.value_or(!complex_fft),
            return_complex.value_or(true),
            normalized ? 1 / std::sqrt(static_cast<double>(n_fft)) : 1};
  Framing& framing = plan.framing;
  if (center) {
    framing.pad = n_fft / 2;
    framing.mode = parse_pad(pad_mode);
    check_padding(input, framing);
  }
  const c10::SymInt length = input.sym_size(-1) + 2 * framing.pad;
  BC_CHECK("stft_fp32", length >= n_fft, "expected 0 < n_fft < ", length, ", but got n_fft=", n_fft, "; input is ",
           input.sym_sizes());
  BC_CHECK("stft_fp32", hop > 0, "expected hop_length > 0, but got hop_length=", hop);
  BC_CHECK("stft_fp32", width > 0 && width <= n_fft, "expected 0 < win_length <= n_fft, but got win_length=", width);
  BC_CHECK("stft_fp32", !window || (window->dim() == 1 && window->sym_size(0) == width),
           "expected a 1D window tensor of size equal to win_length=", width, ", but got window with size ", window->sym_sizes());
  BC_CHECK("stft_fp32", !complex_fft || !plan.onesided, "Cannot have onesided output if window or input is complex");
  const bool align = align_to_window.value_or(false);
  if (align) framing.pad = (n_fft - width) / 2;
  framing.n_frames = (length - (align ? width : n_fft)) / hop + 1;
  return plan;
}

Tensor shaped(const Tensor& spectrum, const Tensor& input, const Plan& plan) {
  const Tensor y = input.dim() == 1 ? spectrum.squeeze(0) : spectrum;
  return plan.return_complex ? y : at::view_as_real(y);
}

Tensor composite(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
                 Str pad_mode, bool normalized, OptBool onesided, OptBool return_complex, OptBool align_to_window) {
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided,
                              return_complex, align_to_window);
  const Tensor x = input.to(input.is_complex() ? at::toComplexType(plan.dtype) : plan.dtype);
  const Tensor w = full_window(window, plan.win_length, n_fft, plan.scale, input.options().dtype(plan.dtype));
  return shaped(analyse_aten(x.dim() == 1 ? x.unsqueeze(0) : x, w, plan.framing, plan.onesided), input, plan);
}

// As composite, with the strides that the meta kernel says.
Tensor explicit_composite(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window,
                          bool center, Str pad_mode, bool normalized, OptBool onesided, OptBool return_complex,
                          OptBool align_to_window) {
  const Tensor y =
      composite(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided, true, align_to_window);
  return return_complex.value_or(true) ? frames_major(y) : at::view_as_real(frames_major(y));
}

Tensor cpu(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
           Str pad_mode, bool normalized, OptBool onesided, OptBool return_complex, OptBool align_to_window) {
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided,
                              return_complex, align_to_window);
  if (plan.complex_fft || !plan.onesided) {
    return explicit_composite(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided,
                              return_complex, align_to_window);
  }
  const Tensor x = (input.dim() == 1 ? input.unsqueeze(0) : input).to(plan.dtype).contiguous();
  const Tensor w = full_window(window, plan.win_length, n_fft, plan.scale, x.options());
  return shaped(analyse_cpu(x, w, plan.framing, 1).transpose(1, 2), input, plan);
}

Tensor cuda(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
            Str pad_mode, bool normalized, OptBool onesided, OptBool return_complex, OptBool align_to_window) {
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided,
                              return_complex, align_to_window);
  if (!transforms_on_card(input, window, n_fft)) {
    return explicit_composite(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided,
                              return_complex, align_to_window);
  }
  const Tensor w = full_window_cuda(window, plan.win_length, n_fft, plan.scale, input.options().dtype(plan.dtype));
  const Bins bins = plan.onesided ? Bins::kOneSided : Bins::kAll;
  const Tensor x = input.dim() == 1 ? input.unsqueeze(0) : input;
  return shaped(analyse_cuda(x, w, plan.framing, bins, 1, 1).transpose(1, 2), input, plan);
}

Tensor meta(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
            Str pad_mode, bool normalized, OptBool onesided, OptBool return_complex, OptBool align_to_window) {
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided,
                              return_complex, align_to_window);
  const auto options = input.options().dtype(at::toComplexType(plan.dtype));
  const c10::SymInt batch = input.dim() == 1 ? c10::SymInt(1) : input.sym_size(0);
  return shaped(empty_frames_major(batch, plan.bins(), plan.framing.n_frames, options), input, plan);
}

// What padding did to the signal, backwards: the gradient of every copied sample goes to where it came from.
Tensor unpad(const Tensor& padded, const c10::SymInt& length, const Framing& framing) {
  const c10::SymInt pad = framing.pad, beyond = length + 2 * pad - padded.sym_size(1);
  if (framing.mode == Pad::kConstant || framing.pad == 0) return at::constant_pad_nd_symint(padded, {-pad, beyond - pad});
  const Tensor whole = at::constant_pad_nd_symint(padded, {c10::SymInt(0), beyond});
  const Tensor inner = whole.narrow_symint(1, pad, length);
  const c10::SymInt both[] = {pad, pad};
  if (framing.mode == Pad::kReflect) return at::reflection_pad1d_backward_symint(whole, inner, both);
  if (framing.mode == Pad::kReplicate) return at::replication_pad1d_backward_symint(whole, inner, both);
  const Tensor left = whole.narrow_symint(1, 0, pad), right = whole.narrow_symint(1, pad + length, pad);
  return inner + at::constant_pad_nd_symint(left, {length - pad, c10::SymInt(0)}) +
         at::constant_pad_nd_symint(right, {c10::SymInt(0), length - pad});
}

Framing framing_of(const Tensor& grad, int64_t hop, int64_t pad, Str mode) {
  return {hop, pad, parse_pad(mode), grad.sym_size(2)};
}

// The transform is linear in its input, so this is its adjoint: inverse transform, window, overlap-add, unpad.
Tensor backward_aten(const Tensor& grad, const Tensor& window, c10::SymInt length, int64_t hop, int64_t pad, Str pad_mode,
                     bool onesided, bool complex_input) {
  const Framing framing = framing_of(grad, hop, pad, pad_mode);
  const int64_t n_fft = window.size(0);
  const Trim all{0, (framing.n_frames - 1) * hop + n_fft};
  Tensor padded;
  if (onesided) {
    // The inverse transform counts each bin but those at the edges twice
    Tensor share = at::full({grad.size(1), 1}, 0.5, window.options());
    share.narrow(0, 0, 1).fill_(1);
    if (n_fft % 2 == 0) share.narrow(0, -1, 1).fill_(1);
    padded = synthesise_aten(grad * share, window, hop, all, false);
  } else {
    padded = synthesise_aten(grad, window.conj(), hop, all, true);
    if (!complex_input) padded = at::real(padded);
  }
  return unpad(padded, length, framing);
}

Tensor backward(const Tensor& grad, const Tensor& window, c10::SymInt length, int64_t hop, int64_t pad, Str pad_mode,
                bool onesided, bool complex_input) {
  return backward_aten(grad, window, std::move(length), hop, pad, pad_mode, onesided, complex_input).contiguous();
}

Tensor backward_cpu(const Tensor& grad, const Tensor& window, c10::SymInt length, int64_t hop, int64_t pad, Str pad_mode,
                    bool onesided, bool complex_input) {
  if (!onesided) return backward(grad, window, std::move(length), hop, pad, pad_mode, onesided, complex_input);
  const Framing framing = framing_of(grad, hop, pad, pad_mode);
  const Tensor half = window * 0.5;
  if (framing.mode == Pad::kConstant || pad == 0) return synthesise_cpu(grad, half, hop, {pad, length}, 2, {});
  return unpad(synthesise_cpu(grad, half, hop, {0, length + 2 * pad}, 2, {}), length, framing).contiguous();
}

Tensor backward_cuda(const Tensor& grad, const Tensor& window, c10::SymInt length, int64_t hop, int64_t pad, Str pad_mode,
                     bool onesided, bool complex_input) {
  if (!transforms_on_card(grad, window, window.size(0))) {
    return backward(grad, window, std::move(length), hop, pad, pad_mode, onesided, complex_input);
  }
  const int64_t n_fft = window.size(0);
  const Tensor w = full_window_cuda(window, n_fft, n_fft, 1, window.options());
  const Framing framing = framing_of(grad, hop, pad, pad_mode);
  // The inverse of one side counts each bin but those at the edges twice
  const Synthesis synthesis{onesided ? 0.5 : 1, onesided ? 2.0 : 1, onesided, complex_input, false};
  if (framing.mode == Pad::kConstant || pad == 0) return synthesise_cuda(grad, w, hop, {pad, length}, synthesis);
  return unpad_cuda(synthesise_cuda(grad, w, hop, {0, length + 2 * pad}, synthesis), framing);
}

const OwnKernel own{"blackwell_compat::stft_fp32", c10::KernelFunction::makeFromUnboxedRuntimeFunction(&cuda)};
const OwnKernel own_backward{"blackwell_compat::stft_fp32_backward",
                             c10::KernelFunction::makeFromUnboxedRuntimeFunction(&backward_cuda)};

Tensor backward_meta(const Tensor& grad, const Tensor& window, c10::SymInt length, int64_t, int64_t, Str, bool,
                     bool complex_input) {
  const auto dtype = complex_input ? grad.scalar_type() : c10::toRealValueType(window.scalar_type());
  return at::empty_symint({grad.sym_size(0), std::move(length)}, grad.options().dtype(dtype));
}

// From a (B, L) signal in the dtype of the arithmetic to the complex (B, bins, frames).
struct StftFunction : torch::autograd::Function<StftFunction> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& input, const OptTensor& window,
                        const Tensor& prepared_window, const Plan& plan, bool center, const std::string& pad_mode,
                        bool normalized, OptBool align_to_window) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({prepared_window});
    ctx->saved_data["length"] = input.sym_size(1);
    ctx->saved_data["hop"] = plan.framing.hop;
    ctx->saved_data["pad"] = plan.framing.pad;
    ctx->saved_data["mode"] = name_of(plan.framing.mode);
    ctx->saved_data["onesided"] = plan.onesided;
    ctx->saved_data["complex"] = input.is_complex();
    return call(input, plan.n_fft, plan.framing.hop, plan.win_length, window, center, pad_mode, normalized, plan.onesided, true,
                align_to_window);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, torch::autograd::variable_list grads) {
    const auto compute = at::GradMode::is_enabled() ? backward_aten : call_backward;
    const Tensor dx =
        compute(grads[0], ctx->get_saved_variables()[0], ctx->saved_data["length"].toSymInt(), ctx->saved_data["hop"].toInt(),
                ctx->saved_data["pad"].toInt(), ctx->saved_data["mode"].toStringView(), ctx->saved_data["onesided"].toBool(),
                ctx->saved_data["complex"].toBool());
    return {dx, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor autograd(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
                Str pad_mode, bool normalized, OptBool onesided, OptBool return_complex, OptBool align_to_window) {
  const Tensor& w = value_or_undefined(window);
  if (wants_composite({input, w}) || wants_grad({w})) {
    return composite(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided, return_complex,
                     align_to_window);
  }
  if (!wants_grad({input})) {
    at::AutoDispatchBelowADInplaceOrView below;
    return call(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided, return_complex,
                align_to_window);
  }
  const Plan plan = make_plan(input, n_fft, hop_length, win_length, window, center, pad_mode, normalized, onesided,
                              return_complex, align_to_window);
  const Tensor x = input.to(input.is_complex() ? at::toComplexType(plan.dtype) : plan.dtype);
  const Tensor prepared = prepared_window(input, window, plan.win_length, n_fft, plan.scale, plan.dtype);
  const Tensor y = StftFunction::apply(x.dim() == 1 ? x.unsqueeze(0) : x, window, prepared, plan, center,
                                       std::string(pad_mode.data(), pad_mode.size()), normalized, align_to_window);
  return shaped(y, input, plan);
}

template <c10::DeviceType device>
Tensor autocast(const Tensor& input, int64_t n_fft, OptInt hop_length, OptInt win_length, const OptTensor& window, bool center,
                Str pad_mode, bool normalized, OptBool onesided, OptBool return_complex, OptBool align_to_window) {
  using Cast = Autocast<device>;
  c10::impl::ExcludeDispatchKeyGuard off(Cast::key);
  return call(Cast::full(input), n_fft, hop_length, win_length, Cast::full(window), center, pad_mode, normalized, onesided,
              return_complex, align_to_window);
}

}  // namespace

at::ScalarType spectral_dtype(const Tensor& input, const OptTensor& window) {
  const auto wide = [](const Tensor& t) { return c10::toRealValueType(at::toOpMathType(t.scalar_type())); };
  return window ? at::promote_types(wide(input), wide(*window)) : wide(input);
}

Tensor analyse_aten(const Tensor& signal, const Tensor& window, const Framing& framing, bool onesided) {
  const c10::SymInt n_fft = window.sym_size(0), pad = framing.pad;
  Tensor padded = signal;
  if (framing.mode == Pad::kConstant) {
    const c10::SymInt reach = (framing.n_frames - 1) * framing.hop + n_fft;
    padded = at::constant_pad_nd_symint(signal, {pad, reach - pad - signal.sym_size(1)});
  } else if (framing.pad > 0) {
    padded = at::pad_symint(signal.unsqueeze(0), {pad, pad}, name_of(framing.mode)).squeeze(0);
  }
  const Tensor frames = padded.unfold(1, window.size(0), framing.hop) * window;
  const Tensor spectrum = frames.is_complex() ? at::_fft_c2c(frames, {2}, 0, true) : at::_fft_r2c(frames, {2}, 0, onesided);
  return spectrum.transpose(1, 2);
}

TORCH_LIBRARY_FRAGMENT(blackwell_compat, m) {
  m.def(
      "stft_fp32(Tensor input, int n_fft, int? hop_length=None, int? win_length=None, Tensor? window=None, bool center=True, "
      "str pad_mode=\"reflect\", bool normalized=False, bool? onesided=None, bool? return_complex=None, "
      "bool? align_to_window=None) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "stft_fp32_backward(Tensor grad, Tensor window, SymInt length, int hop_length, int pad, str pad_mode, bool onesided, "
      "bool complex_input) -> Tensor",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(blackwell_compat, CPU, m) {
  m.impl("stft_fp32", cpu);
  m.impl("stft_fp32_backward", backward_cpu);
}
TORCH_LIBRARY_IMPL(blackwell_compat, CUDA, m) {
  m.impl("stft_fp32", cuda);
  m.impl("stft_fp32_backward", backward_cuda);
}
TORCH_LIBRARY_IMPL(blackwell_compat, CompositeExplicitAutograd, m) {
  m.impl("stft_fp32", explicit_composite);
  m.impl("stft_fp32_backward", backward);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Meta, m) {
  m.impl("stft_fp32", meta);
  m.impl("stft_fp32_backward", backward_meta);
}
TORCH_LIBRARY_IMPL(blackwell_compat, Autograd, m) { m.impl("stft_fp32", autograd); }
TORCH_LIBRARY_IMPL(blackwell_compat, FuncTorchBatchedDecomposition, m) { m.impl("stft_fp32", composite); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCPU, m) { m.impl("stft_fp32", autocast<c10::kCPU>); }
TORCH_LIBRARY_IMPL(blackwell_compat, AutocastCUDA, m) { m.impl("stft_fp32", autocast<c10::kCUDA>); }

}  // namespace blackwell_compat
