// float32 copies of weights in half precision, kept from call to call.
#pragma once
#include <ATen/core/Tensor.h>

namespace blackwell_compat::fallback {

// `host` in float32 (complex64). Kept from the second time on that the same part of a shadow is asked for, as weights are.
at::Tensor widened(const at::Tensor& host);

// The bytes of a host storage changed.
void forget_widened(const c10::StorageImpl* host);

void forget_all_widened();

}  // namespace blackwell_compat::fallback
