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

// The same for integers, too: "i64" to "i8", "u8".
inline const char* kernel_number(c10::ScalarType dtype) {
  switch (dtype) {
    case c10::ScalarType::Long:
      return "i64";
    case c10::ScalarType::Int:
      return "i32";
    case c10::ScalarType::Short:
      return "i16";
    case c10::ScalarType::Char:
      return "i8";
    case c10::ScalarType::Byte:
      return "u8";
    default:
      return kernel_dtype(dtype);
  }
}

}  // namespace blackwell_compat
