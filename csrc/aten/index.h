// What x[..., i, j] means.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <vector>

namespace blackwell_compat {

struct Places {
  std::vector<at::Tensor> indices;  // of one size and the same strides
  std::vector<int64_t> indexed;     // the dimension of the table that each of them is for
  c10::DimVector sizes;             // of the result
  int64_t first;                    // dimension of the result where those of the indices begin

  bool names(int64_t dim) const { return std::find(indexed.begin(), indexed.end(), dim) != indexed.end(); }
};

// Adds `values`, of the sizes of the result, to the places of a table, in their order; false where ours cannot.
bool add_at(const at::Tensor& table, const Places& places, const at::Tensor& values);

}  // namespace blackwell_compat
