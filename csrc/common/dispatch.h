// What every op's autograd and autocast registrations share.
#pragma once
#include <ATen/FuncTorchTLS.h>
#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <functional>

#include "common/pack_cache.h"

namespace blackwell_compat {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

// torch.func transforms and forward-mode AD cannot differentiate a C++ autograd::Function, but they can ATen's operators.
inline bool wants_composite(std::initializer_list<std::reference_wrapper<const Tensor>> tensors) {
  if (const auto& transforms = at::functorch::functorchTLSAccessor()) {
    try {
      transforms->checkSupportsCppAutogradFunction();  // throws while a transform runs
    } catch (const c10::Error&) {
      return true;
    }
  }
  for (const Tensor& t : tensors) {
    if (t.defined() && t._fw_grad(0).defined()) return true;
  }
  return false;
}

inline bool wants_grad(std::initializer_list<std::reference_wrapper<const Tensor>> tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const Tensor& t : tensors) {
    if (t.defined() && t.requires_grad()) return true;
  }
  return false;
}

inline const Tensor& value_or_undefined(const OptTensor& t) {
  static const Tensor undefined;
  return t ? *t : undefined;
}

template <c10::DeviceType device>
struct Autocast {
  static constexpr c10::DispatchKey key = device == c10::kCPU ? c10::DispatchKey::AutocastCPU : c10::DispatchKey::AutocastCUDA;
  static Tensor low(const Tensor& t) { return at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), t, device); }
  static OptTensor low(const OptTensor& t) { return t ? OptTensor(low(*t)) : t; }
  // On the CPU kept for as long as the weight is as it was: PyTorch's cache ends with the block, and with it went what was
  // packed. torch.jit.trace has to see the cast.
  static Tensor low_weight(const Tensor& weight) {
    const auto dtype = at::autocast::get_autocast_dtype(device);
    const bool keep = device == c10::kCPU && weight.is_cpu() && weight.layout() == at::kStrided && weight.numel() > 0 &&
                      weight.scalar_type() == at::kFloat && dtype != at::kFloat && !wants_grad({weight}) &&
                      !at::isTensorSubclassLike(weight) && at::autocast::is_autocast_cache_enabled() &&
                      !c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::Tracer);
    if (!keep) return low(weight);
    const Tensor cast = kept_cast(weight, dtype);
    return cast.defined() ? cast : low(weight);
  }
  static Tensor full(const Tensor& t) { return at::autocast::cached_cast(at::kFloat, t, device); }
  static OptTensor full(const OptTensor& t) { return t ? OptTensor(full(*t)) : t; }
};

}  // namespace blackwell_compat
