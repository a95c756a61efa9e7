// Rows of numbers in order.
#pragma once
#include <ATen/core/Tensor.h>

#include "kernels/sort.cuh"

namespace blackwell_compat {

// Sorts along a dimension and writes `kept` elements of each row from `first` on (or the median, kept = 1), to `values` and where
// they were to `indices`. Both have the strides of each other; either may be undefined. False, and nothing is done, where the
// dtype or size is not for it.
struct Sort {
  int64_t dim, first, kept;
  bool descending = false;
  SortPick pick = SortPick::kRange;
};
bool sort_on_card(const at::Tensor& self, const Sort& sort, const at::Tensor& values, const at::Tensor& indices);

}  // namespace blackwell_compat
