// How kernels are named by dtype.
#pragma once
#include <c10/core/ScalarType.h>

namespace blackwell_compat {

// "f32", "f16", "bf16", "f64", as names of kernels have it; null for other dtypes.
inline const char* kernel_dtype(c10::ScalarType dtype) {
  switch (dtype) {
    case c10::ScalarType::Float:
      return "f32";
    case c10::ScalarType::Half:
      return "f16";
    case c10::ScalarType::BFloat16:
      return "bf16";
    case c10::ScalarType::Double:
      return "f64";
    default:
      return nullptr;
  }
}

}  // namespace blackwell_compat
