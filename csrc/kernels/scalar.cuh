// The dtypes of values that are known only when a kernel runs.
#pragma once

namespace blackwell_compat {

enum class ScalarKind : int {
  kFloat,
  kDouble,
  kHalf,
  kBFloat16,
  kByte,
  kChar,
  kShort,
  kInt,
  kLong,
  kBool,
  kComplexFloat,
};

}  // namespace blackwell_compat
