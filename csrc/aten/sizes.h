// Lists of sizes as ops are given them.
#pragma once
#include <ATen/core/ivalue.h>

#include <array>

namespace blackwell_compat {

// A value for each of `axes`, where a list of one value is for all of them. False where there are others, or one is below
// `least`.
template <size_t axes>
bool read_sizes(const c10::IValue& value, int64_t least, std::array<int64_t, axes>& sizes) {
  if (!value.isIntList()) return false;
  const auto list = value.toIntVector();
  if (list.size() != 1 && list.size() != axes) return false;
  for (size_t i = 0; i < axes; ++i) {
    sizes[i] = list[list.size() == 1 ? 0 : i];
    if (sizes[i] < least) return false;
  }
  return true;
}

}  // namespace blackwell_compat
