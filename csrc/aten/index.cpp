// Reads and writes of elements that indices name: gather, index_select, index, take, and scatter, index_put, index_copy,
// index_fill, put.
#include "kernels/index.cuh"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <c10/core/DeviceGuard.h>

#include <optional>

#include "aten/cat.h"
#include "aten/index.h"
#include "aten/nest.h"
#include "aten/variants.h"
#include "common/ceil_div.h"
#include "common/own_kernels.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

// Loops over the values that a table gives or takes.
class Access {
 public:
  explicit Access(const Tensor& table) : table_(table), element_(table.element_size()) {}

  // Strides in elements
  void loop(int64_t size, int64_t value_stride, int64_t table_stride, int64_t index_stride) {
    nest_.push_back({size, {value_stride * element_, table_stride * element_, index_stride}});
  }

  // All that are given have the same strides.
  void index(const Tensor& index, int64_t rows, int64_t row_stride) {
    const int k = p_.count++;
    p_.indices[k] = index.const_data_ptr(), p_.rows[k] = rows, p_.row_strides[k] = row_stride * element_;
    p_.wide = index.scalar_type() == at::kLong;
  }

  bool read(const Tensor& values) { return launch(values.mutable_data_ptr(), table_.const_data_ptr(), false); }
  bool write(const Tensor& values) { return launch(table_.mutable_data_ptr(), values.const_data_ptr(), true); }
  bool write(const at::Scalar& value) {
    const Tensor host = at::scalar_tensor(value, at::device(at::kCPU).dtype(table_.scalar_type()));
    std::memcpy(p_.value, host.const_data_ptr(), element_);
    return launch(table_.mutable_data_ptr(), nullptr, true);
  }

 private:
  bool launch(void* to, const void* from, bool writes) {
    if (steps_of(nest_) == 0) return true;
    const bool ordered =
        std::all_of(nest_.begin(), nest_.end(), [](const auto& loop) { return loop.size == 1 || loop.strides[0] != 0; });
    simplify(nest_, ordered ? 0 : -1);
    std::vector<int64_t> offsets{address_of(to), address_of(from)};
    offsets.insert(offsets.end(), p_.row_strides, p_.row_strides + p_.count);
    const int64_t unit = widest_unit<2>(nest_, element_, offsets), steps = steps_of(nest_) * element_ / unit;
    const int dims = static_cast<int>(nest_.size());
    if (dims > kIndexDims || steps > std::numeric_limits<int>::max()) return false;
    in_units<2>(nest_, element_, unit);
    p_.to = to, p_.from = from, p_.size = static_cast<unsigned>(steps), p_.dims = dims;
    for (int k = 0; k < p_.count; ++k) p_.row_strides[k] /= unit;
    lay_out(nest_, p_.sizes, writes ? p_.from_strides : p_.to_strides, writes ? p_.to_strides : p_.from_strides,
            p_.index_strides);
    const c10::DeviceGuard guard(table_.device());
    const std::string name = (writes ? "compat_index_write_b" : "compat_index_read_b") + std::to_string(unit);
    runtime::launch(name, table_.device(), {ceil_div(steps, kIndexThreads * kIndexUnitsOfThread), kIndexThreads, 0}, &p_);
    return true;
  }

  const Tensor& table_;
  const int64_t element_;
  Nest<3> nest_;  // values, table, indices
  IndexParams p_{};
};

// Where `values` (or none) has the sizes of `index`, an index for each of them in dimension `dim` of the table.
std::optional<Access> along(const Tensor& table, int64_t given, const Tensor& index, const Tensor& values) {
  const int64_t dims = std::max<int64_t>(1, table.dim()), dim = wrapped(given, dims);
  if (dim < 0 || !names_elements(index) || std::max<int64_t>(1, index.dim()) != dims) return std::nullopt;
  Access access(table);
  for (int64_t d = 0; d < index.dim(); ++d) {
    const int64_t most = table.dim() == 0 ? 1 : table.size(d), size = index.size(d);
    if ((d != dim && size > most) || (values.defined() && (values.dim() != index.dim() || size > values.size(d)))) {
      return std::nullopt;
    }
    access.loop(size, values.defined() ? values.stride(d) : 0, d == dim || table.dim() == 0 ? 0 : table.stride(d),
                index.stride(d));
  }
  access.index(index, table.dim() == 0 ? 1 : table.size(dim), table.dim() == 0 ? 1 : table.stride(dim));
  return access;
}

// An index for each row of dimension `dim` of `values`, or of the table where there are none.
std::optional<Access> rows(const Tensor& table, int64_t dim, const Tensor& index, const Tensor& values) {
  if (dim < 0 || index.dim() > 1 || (table.dim() == 0 && index.numel() != 1)) return std::nullopt;
  Access access(table);
  const int64_t step = index.dim() == 0 ? 0 : index.stride(0);
  for (int64_t d = 0; d < table.dim(); ++d) {
    const bool chosen = d == dim;
    const int64_t size = chosen ? index.numel() : table.size(d);
    if (values.defined() && values.size(d) != size) return std::nullopt;
    access.loop(size, values.defined() ? values.stride(d) : 0, chosen ? 0 : table.stride(d), chosen ? step : 0);
  }
  access.index(index, table.dim() == 0 ? 1 : table.size(dim), table.dim() == 0 ? 1 : table.stride(dim));
  return access;
}

bool gather(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor(), index = arguments[2].toTensor();
  if (self.layout() != c10::kStrided || (index.numel() > 0 && !along(self, arguments[1].toInt(), index, {}))) return false;
  const Tensor out = destination(op, *stack, index.sizes(), self.options());
  if (!out.defined() || (index.numel() > 0 && !along(self, arguments[1].toInt(), index, out)->read(out))) return false;
  give(op, stack, {out});
  return true;
}

bool index_select(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor(), index = arguments[2].toTensor();
  const int64_t dim = wrapped(arguments[1].toInt(), std::max<int64_t>(1, self.dim()));
  if (dim < 0 || index.dim() > 1 || !is_index(index) || self.layout() != c10::kStrided) return false;
  if (self.dim() == 0 && index.numel() != 1) return false;
  c10::DimVector sizes(self.sizes());
  if (self.dim() > 0) sizes[dim] = index.numel();
  const Tensor out = destination(op, *stack, sizes, self.options());
  if (!out.defined() || !rows(self, dim, index, out)->read(out)) return false;
  give(op, stack, {out});
  return true;
}

bool take(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor(), index = arguments[1].toTensor();
  if (index.scalar_type() != at::kLong || self.layout() != c10::kStrided) return false;
  const Tensor out = destination(op, *stack, index.sizes(), self.options());
  if (!out.defined()) return false;
  const Tensor table = packed(self);
  Access access(table);
  for (int64_t d = 0; d < index.dim(); ++d) access.loop(index.size(d), out.stride(d), 0, index.stride(d));
  access.index(index, table.numel(), 1);
  if (!access.read(out)) return false;
  give(op, stack, {out});
  return true;
}

bool put(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 4);
  const Tensor self = arguments[0].toTensor(), index = arguments[1].toTensor(), source = arguments[2].toTensor();
  if (arguments[3].toBool() || index.scalar_type() != at::kLong || source.scalar_type() != self.scalar_type() ||
      source.numel() != index.numel() || !self.is_contiguous() || !changed(op, *stack).defined()) {
    return false;
  }
  const Tensor flat_index = packed(index), flat_source = packed(source);
  Access access(self);
  access.loop(index.numel(), 1, 0, 1);
  access.index(flat_index, self.numel(), 1);
  if (!access.write(flat_source)) return false;
  give(op, stack, {self});
  return true;
}

Access access_of(const Places& places, const Tensor& table, const Tensor& values) {
  Access access(table);
  const int64_t width = places.indices[0].dim();
  int64_t dim = 0;  // of the table
  for (int64_t d = 0; d < values.dim(); ++d) {
    if (d >= places.first && d < places.first + width) {
      access.loop(values.size(d), values.stride(d), 0, places.indices[0].stride(d - places.first));
      continue;
    }
    while (places.names(dim)) ++dim;
    access.loop(values.size(d), values.stride(d), table.stride(dim), 0);
    ++dim;
  }
  for (size_t k = 0; k < places.indices.size(); ++k) {
    access.index(places.indices[k], table.size(places.indexed[k]), table.stride(places.indexed[k]));
  }
  return access;
}

std::optional<c10::DimVector> broadcast(const std::vector<Tensor>& tensors) {
  c10::DimVector sizes;
  for (const Tensor& tensor : tensors) {
    if (!at::are_expandable(sizes, tensor.sizes())) return std::nullopt;
    sizes = at::infer_size_dimvector(sizes, tensor.sizes());
  }
  return sizes;
}

// The tensors of a list with None for whole dimensions; a mask gives those of its elements.
bool spread(const Tensor& self, const IValue& given, Places& places) {
  int64_t dim = 0;
  for (const std::optional<Tensor>& item : given.toOptionalTensorVector()) {
    if (!item || !item->defined()) {
      ++dim;
    } else if (item->scalar_type() == at::kBool) {
      for (int64_t d = 0; d < item->dim(); ++d) {
        if (dim + d >= self.dim() || item->size(d) != self.size(dim + d)) return false;
      }
      if (item->dim() == 0) return false;
      const Tensor found = item->to(self.device()).nonzero();
      for (int64_t d = 0; d < item->dim(); ++d) {
        places.indices.push_back(found.select(1, d));
        places.indexed.push_back(dim++);
      }
    } else if (is_index(*item)) {
      places.indices.push_back(item->to(self.device()));
      places.indexed.push_back(dim++);
    } else {
      return false;
    }
  }
  return dim <= self.dim() && !places.indices.empty() && places.indices.size() <= static_cast<size_t>(kMostIndices);
}

std::optional<Places> places_of(const Tensor& self, const IValue& given) {
  Places places;
  if (self.layout() != c10::kStrided || !spread(self, given, places)) return std::nullopt;
  const auto common = broadcast(places.indices);
  if (!common) return std::nullopt;
  const bool adjacent = places.indexed.back() - places.indexed.front() + 1 == static_cast<int64_t>(places.indexed.size());
  places.first = adjacent ? places.indexed.front() : 0;
  for (int64_t d = 0; d < self.dim(); ++d) {
    if (std::find(places.indexed.begin(), places.indexed.end(), d) == places.indexed.end()) places.sizes.push_back(self.size(d));
  }
  places.sizes.insert(places.sizes.begin() + places.first, common->begin(), common->end());
  const bool empty_table =
      std::any_of(places.indexed.begin(), places.indexed.end(), [&](int64_t d) { return self.size(d) == 0; });
  if (empty_table) return std::nullopt;
  for (Tensor& index : places.indices) {
    if (index.scalar_type() != places.indices[0].scalar_type()) index = index.to(places.indices[0].scalar_type());
    index = index.expand(*common);
  }
  const auto same = [&](const Tensor& index) { return index.strides() == places.indices[0].strides(); };
  if (!std::all_of(places.indices.begin(), places.indices.end(), same)) {
    for (Tensor& index : places.indices) index = packed(index);
  }
  return places;
}

bool index(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const auto places = places_of(self, arguments[1]);
  if (!places) return false;
  const Tensor out = destination(op, *stack, places->sizes, self.options());
  if (!out.defined() || !access_of(*places, self, out).read(out)) return false;
  give(op, stack, {out});
  return true;
}

// Whether self[mask] = value is a masked_fill, which need not count the mask's elements.
bool fill_of_mask(const Tensor& self, const IValue& given, const Tensor& value) {
  const auto indices = given.toOptionalTensorVector();
  if (value.numel() != 1 || indices.size() != 1 || !indices[0] || indices[0]->scalar_type() != at::kBool) return false;
  Tensor mask = *indices[0];
  if (mask.dim() == 0 || mask.dim() > self.dim() || mask.sizes() != self.sizes().slice(0, mask.dim())) return false;
  while (mask.dim() < self.dim()) mask = mask.unsqueeze(-1);
  self.masked_fill_(mask.to(self.device()), value.reshape({}));
  return true;
}

bool index_put(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 5);
  const Tensor self = arguments[0].toTensor(), values = arguments[2].toTensor();
  const bool adds = arguments[3].toBool();
  if (values.scalar_type() != self.scalar_type() || !changed(op, *stack).defined()) return false;
  if (adds || !fill_of_mask(self, arguments[1], values)) {
    const auto places = places_of(self, arguments[1]);
    if (!places || !at::is_expandable_to(values.sizes(), places->sizes)) return false;
    const Tensor spread = values.to(self.device()).expand(places->sizes);
    if (!(adds ? add_at(self, *places, spread) : access_of(*places, self, spread).write(spread))) return false;
  }
  give(op, stack, {self});
  return true;
}

bool scatter(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor(), index = arguments[2].toTensor();
  const int64_t dim = arguments[1].toInt();
  const bool of_scalar = !arguments[3].isTensor();
  const Tensor source = of_scalar ? Tensor() : arguments[3].toTensor();
  if (self.layout() != c10::kStrided || (!of_scalar && source.scalar_type() != self.scalar_type())) return false;
  if (index.numel() > 0 && !along(self, dim, index, source)) return false;
  const Tensor out = changed(op, *stack);
  if (!out.defined()) return false;
  if (index.numel() > 0) {
    auto access = along(out, dim, index, source);
    if (!(of_scalar ? access->write(arguments[3].toScalar()) : access->write(source))) return false;
  }
  give(op, stack, {out});
  return true;
}

bool index_copy(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor(), index = arguments[2].toTensor(), source = arguments[3].toTensor();
  const int64_t dim = wrapped(arguments[1].toInt(), std::max<int64_t>(1, self.dim()));
  if (dim < 0 || self.layout() != c10::kStrided || index.scalar_type() != at::kLong ||
      source.scalar_type() != self.scalar_type() || source.dim() != self.dim() || !rows(self, dim, index, source)) {
    return false;
  }
  const Tensor out = changed(op, *stack);
  if (!out.defined() || !rows(out, dim, index, source)->write(source)) return false;
  give(op, stack, {out});
  return true;
}

bool index_fill(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 4);
  const Tensor self = arguments[0].toTensor(), index = arguments[2].toTensor();
  auto access = rows(self, wrapped(arguments[1].toInt(), std::max<int64_t>(1, self.dim())), index, {});
  if (!access || index.scalar_type() != at::kLong || !changed(op, *stack).defined()) return false;
  bool written = false;
  if (arguments[3].isTensor()) {
    const Tensor value = arguments[3].toTensor();
    if (value.dim() != 0 || (value.is_complex() && !self.is_complex())) return false;
    written = access->write(value.to(self.device(), self.scalar_type()));
  } else {
    if (arguments[3].toScalar().isComplex() && !self.is_complex()) return false;
    written = access->write(arguments[3].toScalar());
  }
  if (!written) return false;
  give(op, stack, {self});
  return true;
}

bool unsafe_index(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 2);
  give(op, stack, {at::index(arguments[0].toTensor(), arguments[1].toOptionalTensorList())});
  return true;
}

const OwnKernel kernels[] = {
    {"aten::gather", gather},
    {"aten::gather.out", gather},
    {"aten::index_select", index_select},
    {"aten::index_select.out", index_select},
    {"aten::take", take},
    {"aten::take.out", take},
    {"aten::put_", put},
    {"aten::index.Tensor", index},
    {"aten::index.Tensor_out", index},
    {"aten::_unsafe_index.Tensor", unsafe_index},
    {"aten::_index_put_impl_", index_put},
    {"aten::scatter.src", scatter},
    {"aten::scatter_.src", scatter},
    {"aten::scatter.src_out", scatter},
    {"aten::scatter.value", scatter},
    {"aten::scatter_.value", scatter},
    {"aten::scatter.value_out", scatter},
    {"aten::index_copy", index_copy},
    {"aten::index_copy_", index_copy},
    {"aten::index_copy.out", index_copy},
    {"aten::index_fill_.int_Scalar", index_fill},
    {"aten::index_fill_.int_Tensor", index_fill},
};

}  // namespace
}  // namespace blackwell_compat
