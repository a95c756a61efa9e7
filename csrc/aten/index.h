// What x[..., i, j] means.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>
#include <torch/version.h>

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

inline bool is_index(const at::Tensor& tensor) { return tensor.scalar_type() == at::kLong || tensor.scalar_type() == at::kInt; }

// As an index of gather, scatter and their like, which take int32 from torch 2.8 on.
inline bool names_elements(const at::Tensor& index) {
  constexpr bool kTakesInt = TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 8;
  return kTakesInt ? is_index(index) : index.scalar_type() == at::kLong;
}

// Adds `values`, of the sizes of the result, to the places of a table, in their order; false where ours cannot.
bool add_at(const at::Tensor& table, const Places& places, const at::Tensor& values);

}  // namespace blackwell_compat
