// How kernels are named by dtype.
#pragma once
#include "common/scalar_kind.h"

namespace blackwell_compat {

// "f32", "f16", "bf16", "f64", as names of kernels have it; null for other dtypes.
inline const char* kernel_dtype(c10::ScalarType dtype) {
  const auto kind = scalar_kind(dtype);
  return kind && *kind <= ScalarKind::kBFloat16 ? name_of(*kind) : nullptr;
}

}  // namespace blackwell_compat
