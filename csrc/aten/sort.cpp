// sort, argsort, topk, kthvalue, median and nanmedian.
#include "aten/sort.h"

#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>
#include <c10/core/DeviceGuard.h>

#include "aten/cat.h"
#include "aten/nest.h"
#include "aten/variants.h"
#include "common/ceil_div.h"
#include "common/own_kernels.h"
#include "common/scalar_kind.h"
#include "runtime/device_info.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

void sort_small(SortParams& p, c10::Device device) {
  p.padded = 1;
  while (p.padded < p.size) p.padded *= 2;
  const int64_t to_fill = ceil_div(p.rows, 2 * runtime::device_info(device).multiprocessors);
  p.rows_of_block = static_cast<unsigned>(std::clamp<int64_t>(to_fill, 1, kSortSmall / p.padded));
  runtime::launch("compat_sort_small", device, {ceil_div(p.rows, p.rows_of_block), kSortThreads, kSortSmallBytes}, &p);
}

void sort_large(SortParams& p, int bytes, c10::Device device) {
  const int64_t elements = int64_t{p.rows} * p.size;
  const auto options = at::device(device).dtype(at::kInt);
  const bool wide = bytes == 8;
  const Tensor keys = at::empty({2, elements}, options.dtype(wide ? at::kLong : at::kInt)),
               places = at::empty({2, elements}, options);
  p.tiles = static_cast<unsigned>(ceil_div(p.size, kSortTile));
  const Tensor counts = at::empty({int64_t{p.rows} * p.tiles * kSortDigits}, options);
  p.counts = static_cast<unsigned*>(counts.mutable_data_ptr());
  auto* const key_memory = static_cast<char*>(keys.mutable_data_ptr());
  auto* const place_memory = static_cast<unsigned*>(places.mutable_data_ptr());
  const std::string suffix = wide ? "_b8" : "_b4";
  const int64_t tiles = int64_t{p.rows} * p.tiles;
  int next = 0;
  const auto turn = [&] {
    p.keys = key_memory + (1 - next) * elements * keys.element_size(), p.places = place_memory + (1 - next) * elements;
    p.keys_to = key_memory + next * elements * keys.element_size(), p.places_to = place_memory + next * elements;
    next = 1 - next;
  };
  turn();
  runtime::launch("compat_sort_begin" + suffix, device, {ceil_div(elements, kSortThreads), kSortThreads, 0}, &p);
  for (int digit = 0; digit < bytes; ++digit) {
    turn();
    p.shift = 8 * digit;
    runtime::launch("compat_sort_count" + suffix, device, {tiles, kSortThreads, kSortCountBytes}, &p);
    runtime::launch("compat_sort_sum", device, {int64_t{p.rows}, kSortThreads, kSortCountBytes}, &p);
    runtime::launch("compat_sort_move" + suffix, device, {tiles, kSortThreads, kSortMoveBytes}, &p);
  }
  turn();
  const int64_t written = int64_t{p.rows} * p.kept;
  runtime::launch("compat_sort_end" + suffix, device, {ceil_div(written, kSortThreads), kSortThreads, 0}, &p);
}

struct Sorted {
  Tensor values, indices;
};

// By `sort` with new results of `kept` elements in its dimension, or none there where that is dropped.
std::optional<Sorted> sorted(const Tensor& self, const Sort& sort, bool keeps_dim = true) {
  c10::DimVector sizes(self.sizes());
  if (self.dim() > 0) sizes[sort.dim] = sort.kept;
  Sorted results{at::empty(sizes, self.options()), at::empty(sizes, self.options().dtype(at::kLong))};
  if (!sort_on_card(self, sort, results.values, results.indices)) return std::nullopt;
  if (!keeps_dim && self.dim() > 0) results = {results.values.squeeze(sort.dim), results.indices.squeeze(sort.dim)};
  return results;
}

// For out= the last two arguments are what is written.
bool give_sorted(const c10::OperatorHandle& op, Stack* stack, const std::optional<Sorted>& results) {
  if (!results) return false;
  if (variant_of(op) != Variant::kOut) {
    give(op, stack, {results->values, results->indices});
    return true;
  }
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor values = arguments[arguments.size() - 2].toTensor(), indices = arguments.back().toTensor();
  const auto takes = [](const Tensor& out, const Tensor& result) {
    return out.scalar_type() == result.scalar_type() && out.layout() == c10::kStrided &&
           (out.sizes() == result.sizes() || out.numel() == 0) && at::has_internal_overlap(out) != at::MemOverlap::Yes;
  };
  if (!takes(values, results->values) || !takes(indices, results->indices)) return false;
  const auto put = [](const Tensor& out, const Tensor& result) {
    if (out.sizes() != result.sizes()) out.resize_(result.sizes());
    return copy_on_card(out, result);
  };
  if (!put(values, results->values) || !put(indices, results->indices)) return false;
  give(op, stack, {values, indices});
  return true;
}

int64_t size_of(const Tensor& self, int64_t dim) { return self.dim() == 0 ? 1 : self.size(dim); }
int64_t dim_of(const Tensor& self, const c10::IValue& given) { return wrapped(given.toInt(), std::max<int64_t>(1, self.dim())); }

bool sort(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const int64_t dim = dim_of(self, arguments[2]);
  if (dim < 0) return false;
  const Sorted results{at::empty_like(self), at::empty_like(self, self.options().dtype(at::kLong))};
  const bool done = sort_on_card(self, {dim, 0, size_of(self, dim), arguments[3].toBool()}, results.values, results.indices);
  return done && give_sorted(op, stack, results);
}

bool argsort(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 4);
  const Tensor self = arguments[0].toTensor();
  const int64_t dim = dim_of(self, arguments[2]);
  if (dim < 0) return false;
  const Tensor indices = at::empty_like(self, self.options().dtype(at::kLong));
  if (!sort_on_card(self, {dim, 0, size_of(self, dim), arguments[3].toBool()}, {}, indices)) return false;
  give(op, stack, {indices});
  return true;
}

bool topk(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const int64_t k = arguments[1].toInt(), dim = dim_of(self, arguments[2]);
  if (dim < 0 || k < 0 || k > size_of(self, dim) || self.scalar_type() == at::kBool) return false;
  return give_sorted(op, stack, sorted(self, {dim, 0, k, arguments[3].toBool()}));
}

bool kthvalue(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const int64_t k = arguments[1].toInt(), dim = dim_of(self, arguments[2]);
  if (dim < 0 || k < 1 || k > size_of(self, dim) || self.scalar_type() == at::kBool) return false;
  return give_sorted(op, stack, sorted(self, {dim, k - 1, 1}, arguments[3].toBool()));
}

template <SortPick pick>
bool median_along(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const int64_t dim = dim_of(self, arguments[1]);
  if (dim < 0 || size_of(self, dim) == 0 || self.scalar_type() == at::kBool) return false;
  return give_sorted(op, stack, sorted(self, {dim, 0, 1, false, pick}, arguments[2].toBool()));
}

template <SortPick pick>
bool median(const c10::OperatorHandle& op, Stack* stack) {
  const Tensor self = torch::jit::last(*stack, 1)[0].toTensor();
  if (self.numel() == 0 || self.scalar_type() == at::kBool) return false;
  const Tensor value = at::empty({}, self.options());
  if (!sort_on_card(packed(self).view({-1}), {0, 0, 1, false, pick}, value.unsqueeze(0), {})) return false;
  give(op, stack, {value});
  return true;
}

const OwnKernel kernels[] = {
    {"aten::sort.stable", sort},
    {"aten::sort.values_stable", sort},
    {"aten::argsort.stable", argsort},
    {"aten::topk", topk},
    {"aten::topk.values", topk},
    {"aten::kthvalue.values", kthvalue},
    {"aten::median", median<SortPick::kMedian>},
    {"aten::nanmedian", median<SortPick::kMedianOfNumbers>},
    {"aten::median.dim_values", median_along<SortPick::kMedian>},
    {"aten::nanmedian.dim_values", median_along<SortPick::kMedianOfNumbers>},
};

}  // namespace

bool sort_on_card(const Tensor& self, const Sort& sort, const Tensor& values, const Tensor& indices) {
  const auto kind = stored_kind(self.scalar_type());
  if (!kind || self.layout() != c10::kStrided || self.numel() > std::numeric_limits<int>::max()) return false;
  const Tensor& result = indices.defined() ? indices : values;
  if (values.defined() && indices.defined() && values.strides() != indices.strides()) return false;
  if (result.numel() == 0) return true;
  Nest<2> nest;
  for (int64_t d = 0; d < self.dim(); ++d) {
    if (d != sort.dim) nest.push_back({self.size(d), {result.stride(d), self.stride(d)}});
  }
  simplify(nest);
  SortParams p{};
  if (!lay_out(nest, p.sizes, p.to_strides, p.strides)) return false;
  p.from = self.const_data_ptr(), p.values = values.defined() ? values.mutable_data_ptr() : nullptr;
  p.indices = indices.defined() ? static_cast<long long*>(indices.mutable_data_ptr()) : nullptr;
  p.rows = static_cast<unsigned>(steps_of(nest)), p.size = static_cast<unsigned>(self.numel() / p.rows);
  if (self.dim() > 0) p.stride = self.stride(sort.dim), p.to_stride = result.stride(sort.dim);
  p.first = static_cast<unsigned>(sort.first), p.kept = static_cast<unsigned>(sort.kept), p.kind = *kind;
  p.pick = sort.pick, p.descending = sort.descending;
  const c10::DeviceGuard guard(self.device());
  if (p.size <= static_cast<unsigned>(kSortSmall)) {
    sort_small(p, self.device());
  } else {
    sort_large(p, static_cast<int>(self.element_size()), self.device());
  }
  return true;
}

}  // namespace blackwell_compat
