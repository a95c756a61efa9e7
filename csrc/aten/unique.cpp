// unique, bincount, searchsorted and bucketize: made of other ops that have kernels.
#include <ATen/ATen.h>

#include "common/own_kernels.h"
#include "common/pass_on.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

constexpr int64_t kMostCompared = 1 << 24;  // pairs that are compared one by one

// Of a dense row of values: whether each is another than the one before, and the result's second and third part
Tensor changes(const Tensor& row) {
  return at::cat({at::ones({1}, row.options().dtype(at::kBool)), row.slice(0, 1).ne(row.slice(0, 0, -1))});
}
Tensor run_lengths(const Tensor& first_ones) {
  const Tensor starts = first_ones.nonzero().squeeze(1);
  return at::diff(starts, 1, 0, {}, at::full({1}, first_ones.numel(), starts.options()));
}
Tensor nothing(const Tensor& self) { return at::empty({0}, self.options().dtype(at::kLong)); }

// (self, sorted, return_inverse, return_counts)
bool unique(Stack* stack) {
  const auto given = torch::jit::last(*stack, 4);
  const Tensor self = given[0].toTensor();
  if (self.numel() == 0 || self.is_complex() || self.layout() != c10::kStrided) return false;
  const auto [values, order] = at::sort(self.flatten());
  const Tensor first = changes(values);
  Tensor inverse = nothing(self), counts = nothing(self);
  if (given[2].toBool()) {
    const Tensor group = first.cumsum(0, at::kLong).sub(1);
    inverse = at::empty_like(group).scatter_(0, order, group).view(self.sizes());
  }
  if (given[3].toBool()) counts = run_lengths(first);
  give(stack, 4, {values.masked_select(first), inverse, counts});
  return true;
}

// (self, return_inverse, return_counts, dim)
bool unique_consecutive(Stack* stack) {
  const auto given = torch::jit::last(*stack, 4);
  const Tensor self = given[0].toTensor();
  if (self.numel() == 0 || self.layout() != c10::kStrided || !given[3].isNone()) return false;
  const Tensor row = self.flatten(), first = changes(row);
  const Tensor inverse = given[1].toBool() ? first.cumsum(0, at::kLong).sub(1).view(self.sizes()) : nothing(self);
  give(stack, 4, {row.masked_select(first), inverse, given[2].toBool() ? run_lengths(first) : nothing(self)});
  return true;
}

// (self, weights, minlength)
bool bincount(Stack* stack) {
  const auto given = torch::jit::last(*stack, 3);
  const Tensor self = given[0].toTensor(), weights = optional_tensor(given[1]);
  const int64_t least = given[2].toInt();
  if (self.dim() != 1 || self.numel() == 0 || !at::isIntegralType(self.scalar_type(), false) || least < 0) return false;
  if (weights.defined() && (weights.sizes() != self.sizes() || !weights.is_cuda())) return false;
  const Tensor places = self.to(at::kLong);
  if (places.min().item<int64_t>() < 0) return false;
  const int64_t bins = std::max(places.max().item<int64_t>() + 1, least);
  const Tensor counted = !weights.defined()                    ? at::ones_like(places)
                         : weights.scalar_type() == at::kFloat ? weights
                                                               : weights.to(at::kDouble);
  give(stack, 3, {at::zeros({bins}, counted.options()).index_add_(0, places, counted)});
  return true;
}

// How many of `sorted`, the last dimension of which may be behind more dimensions that `values` has too, come before each value
bool search(Stack* stack, size_t count, const Tensor& sorted, const Tensor& values, bool int32, bool right) {
  if (!sorted.is_cuda() || !values.is_cuda() || sorted.dim() == 0 || sorted.scalar_type() != values.scalar_type() ||
      sorted.size(-1) == 0 || values.numel() == 0 || values.numel() > kMostCompared / sorted.size(-1)) {
    return false;
  }
  if (sorted.dim() != 1 && (values.dim() != sorted.dim() || values.sizes().slice(0, static_cast<size_t>(values.dim() - 1)) !=
                                                                sorted.sizes().slice(0, static_cast<size_t>(sorted.dim() - 1)))) {
    return false;
  }
  const Tensor of = sorted.dim() == 1 ? sorted : sorted.unsqueeze(-2), value = values.unsqueeze(-1);
  const Tensor behind = right ? of.gt(value) : of.ge(value);
  give(stack, count, {behind.logical_not().sum(-1, false, int32 ? at::kInt : at::kLong)});
  return true;
}

// (sorted_sequence, self, out_int32, right, side, sorter)
bool searchsorted(Stack* stack) {
  const auto given = torch::jit::last(*stack, 6);
  const Tensor sequence = given[0].toTensor(), sorter = optional_tensor(given[5]);
  if (sorter.defined() && (sorter.sizes() != sequence.sizes() || sorter.scalar_type() != at::kLong)) return false;
  const bool named = !given[4].isNone();
  if (named && given[3].toBool() && given[4].toStringView() != "right") return false;
  const bool right = named ? given[4].toStringView() == "right" : given[3].toBool();
  if (named && !right && given[4].toStringView() != "left") return false;
  const Tensor sorted = sorter.defined() ? sequence.gather(-1, sorter) : sequence;
  return search(stack, 6, sorted, given[1].toTensor(), given[2].toBool(), right);
}

// (self, boundaries, out_int32, right)
bool bucketize(Stack* stack) {
  const auto given = torch::jit::last(*stack, 4);
  const Tensor boundaries = given[1].toTensor();
  return boundaries.dim() == 1 && search(stack, 4, boundaries, given[0].toTensor(), given[2].toBool(), given[3].toBool());
}

const OwnKernel kernels[] = {{"aten::_unique2", unique},
                             {"aten::unique_consecutive", unique_consecutive},
                             {"aten::bincount", bincount},
                             {"aten::searchsorted.Tensor", searchsorted},
                             {"aten::bucketize.Tensor", bucketize}};

}  // namespace
}  // namespace blackwell_compat
