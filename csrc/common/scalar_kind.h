// How the parameters of kernels name dtypes.
#pragma once
#include <c10/core/ScalarType.h>

#include <optional>

#include "kernels/scalar.cuh"

namespace blackwell_compat {

inline std::optional<ScalarKind> scalar_kind(c10::ScalarType dtype) {
  switch (dtype) {
    case c10::ScalarType::Float:
      return ScalarKind::kFloat;
    case c10::ScalarType::Double:
      return ScalarKind::kDouble;
    case c10::ScalarType::Half:
      return ScalarKind::kHalf;
    case c10::ScalarType::BFloat16:
      return ScalarKind::kBFloat16;
    case c10::ScalarType::Byte:
      return ScalarKind::kByte;
    case c10::ScalarType::Char:
      return ScalarKind::kChar;
    case c10::ScalarType::Short:
      return ScalarKind::kShort;
    case c10::ScalarType::Int:
      return ScalarKind::kInt;
    case c10::ScalarType::Long:
      return ScalarKind::kLong;
    case c10::ScalarType::Bool:
      return ScalarKind::kBool;
    case c10::ScalarType::ComplexFloat:
      return ScalarKind::kComplexFloat;
    default:
      return std::nullopt;
  }
}

// That of real numbers alone.
inline std::optional<ScalarKind> number_kind(c10::ScalarType dtype) {
  const auto kind = scalar_kind(dtype);
  return kind && *kind <= ScalarKind::kLong ? kind : std::nullopt;
}

// That in which values lie in memory: truth values as bytes.
inline std::optional<ScalarKind> stored_kind(c10::ScalarType dtype) {
  return number_kind(dtype == c10::ScalarType::Bool ? c10::ScalarType::Byte : dtype);
}

constexpr size_t kScalarKinds = static_cast<size_t>(ScalarKind::kComplexFloat) + 1;

// As names of kernels have it.
constexpr const char* name_of(ScalarKind kind) {
  constexpr const char* kNames[kScalarKinds]{"f32", "f64", "f16", "bf16", "u8", "i8", "i16", "i32", "i64", "bool", "c64"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace blackwell_compat
