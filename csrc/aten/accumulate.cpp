// scatter_add, index_add, scatter_reduce, the index_put that adds, and the gradient of embedding: what goes to one element is
// brought together by a stable sort, so that it is added in order.
#include "kernels/accumulate.cuh"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "aten/cat.h"
#include "aten/index.h"
#include "aten/nest.h"
#include "aten/sort.h"
#include "aten/variants.h"
#include "common/ceil_div.h"
#include "common/own_kernels.h"
#include "common/scalar_kind.h"
#include "fallback/shadow.h"
#include "runtime/device_info.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

constexpr int64_t kBlocksOfMultiprocessor = 16;

// Complex numbers are added part by part.
const char* suffix_of(at::ScalarType dtype) {
  const auto kind = dtype == at::kComplexHalf ? std::nullopt : number_kind(c10::toRealValueType(dtype));
  return kind ? name_of(*kind) : nullptr;
}

// Where each of some sources goes in a tensor, and the reduction of those that go to one place.
class Accumulation {
 public:
  explicit Accumulation(const Tensor& to) : to_(to), parts_(to.is_complex() ? 2 : 1) {}

  // The sources, in the order of these loops; strides in elements
  void loop(int64_t size, int64_t to_stride, int64_t index_stride) {
    nest_.push_back({size, {parts_ * to_stride, index_stride}});
  }
  void index(const Tensor& index, int64_t rows, int64_t row_stride) {
    const int k = p_.count++;
    p_.indices[k] = index.const_data_ptr(), p_.rows[k] = rows, p_.row_strides[k] = parts_ * row_stride;
    p_.wide = index.scalar_type() == at::kLong;
  }
  void skip(int64_t row) { p_.skips = true, p_.skipped = row; }
  // A dimension that each source has
  void inner(int64_t size, int64_t to_stride, int64_t from_stride) {
    inner_.push_back({size, {parts_ * to_stride, parts_ * from_stride}});
  }

  // Sources lie `stride` elements apart.
  bool reduce(const Tensor& from, int64_t stride, Reduce reduce, bool with_self) {
    const char* const suffix = suffix_of(to_.scalar_type());
    const int64_t count = steps_of(nest_), width = parts_ * steps_of(inner_);
    constexpr int64_t kMost = std::numeric_limits<int>::max();
    if (!suffix || (parts_ == 2 && reduce != Reduce::kSum) || count > kMost || width > kMost) return false;
    if (count == 0 || width == 0) return true;
    inner_.push_back({parts_, {1, 1}});
    simplify(inner_);
    simplify(nest_, -1);
    AccumulateParams q{};
    if (!lay_out(inner_, q.sizes, q.to_strides, q.from_strides) || !lay_out(nest_, p_.sizes, p_.strides, p_.index_strides))
      return false;
    const c10::DeviceGuard guard(to_.device());
    const auto device = to_.device();
    const Tensor keys = sources_to(count), order = at::empty({count}, keys.options().dtype(at::kLong));
    const Tensor sorted = at::empty_like(keys);
    if (!sort_on_card(keys, {0, 0, count}, sorted, order)) return false;
    q.keys = sorted.const_data_ptr(), q.from = from.const_data_ptr(), q.to = to_.mutable_data_ptr();
    q.order = static_cast<const long long*>(order.const_data_ptr()), q.from_stride = parts_ * stride;
    q.width = static_cast<unsigned>(width), q.count = static_cast<unsigned>(count);
    q.reduce = reduce, q.wide_keys = keys.scalar_type() == at::kLong, q.with_self = with_self;
    const int64_t most = kBlocksOfMultiprocessor * runtime::device_info(device).multiprocessors;
    const int64_t blocks = std::min(ceil_div(count * width, kAccumulateThreads), most);
    runtime::launch(std::string("compat_accumulate_") + suffix, device, {blocks, kAccumulateThreads, 0}, &q);
    return true;
  }

 private:
  Tensor sources_to(int64_t count) {
    int64_t extent = parts_;
    for (int64_t d = 0; d < to_.dim(); ++d) extent += parts_ * std::max<int64_t>(0, to_.size(d) - 1) * to_.stride(d);
    p_.wide_keys = extent > std::numeric_limits<int>::max();
    const Tensor keys = at::empty({count}, at::device(to_.device()).dtype(p_.wide_keys ? at::kLong : at::kInt));
    p_.keys = keys.mutable_data_ptr(), p_.size = static_cast<unsigned>(count);
    runtime::launch("compat_accumulate_keys", to_.device(), {ceil_div(count, kAccumulateThreads), kAccumulateThreads, 0}, &p_);
    return keys;
  }

  const Tensor& to_;
  const int64_t parts_;  // of an element: 2 for complex
  Nest<2> nest_, inner_;
  KeysParams p_{};
};

std::optional<Reduce> reduce_of(const std::string& name) {
  if (name == "sum" || name == "add") return Reduce::kSum;
  if (name == "prod" || name == "multiply") return Reduce::kProduct;
  if (name == "mean") return Reduce::kMean;
  if (name == "amax") return Reduce::kMaximum;
  if (name == "amin") return Reduce::kMinimum;
  return std::nullopt;
}

bool sizes_fit(const Tensor& self, int64_t dim, const Tensor& index, const Tensor& source) {
  if (!names_elements(index) || index.dim() != self.dim() || source.dim() != self.dim()) return false;
  for (int64_t d = 0; d < index.dim(); ++d) {
    if (index.size(d) > source.size(d) || (d != dim && index.size(d) > self.size(d))) return false;
  }
  return true;
}

Tensor with_a_dim(const Tensor& tensor) { return tensor.dim() == 0 ? tensor.unsqueeze(0) : tensor; }

// (self, dim, index, src, reduce?, include_self?)
bool scatter(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = with_a_dim(arguments[0].toTensor()), index = with_a_dim(arguments[2].toTensor());
  const Tensor source = with_a_dim(arguments[3].toTensor());
  const int64_t dim = wrapped(arguments[1].toInt(), self.dim());
  const bool named = arguments.size() > 4 && arguments[4].isString();
  const auto reduce = named ? reduce_of(arguments[4].toStringRef()) : std::optional<Reduce>(Reduce::kSum);
  const bool with_self = !(arguments.size() > 5 && arguments[5].isBool()) || arguments[5].toBool();
  if (!reduce || dim < 0 || self.layout() != c10::kStrided || source.scalar_type() != self.scalar_type() ||
      !suffix_of(self.scalar_type()) || !sizes_fit(self, dim, index, source)) {
    return false;
  }
  const Tensor out = changed(op, *stack);
  if (!out.defined()) return false;
  const Tensor to = with_a_dim(out);
  Accumulation sums(to);
  Tensor part = source;
  for (int64_t d = 0; d < index.dim(); ++d) {
    sums.loop(index.size(d), d == dim ? 0 : to.stride(d), index.stride(d));
    part = part.narrow(d, 0, index.size(d));
  }
  sums.index(index, to.size(dim), to.stride(dim));
  if (!sums.reduce(packed(part), 1, *reduce, with_self)) return false;
  give(op, stack, {out});
  return true;
}

bool index_add(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = with_a_dim(arguments[0].toTensor()), index = arguments[2].toTensor();
  Tensor source = with_a_dim(arguments[3].toTensor());
  const at::Scalar alpha = arguments[4].toScalar();
  const int64_t dim = wrapped(arguments[1].toInt(), self.dim());
  if (dim < 0 || index.dim() > 1 || !is_index(index) || self.layout() != c10::kStrided ||
      source.scalar_type() != self.scalar_type() || !suffix_of(self.scalar_type()) || source.dim() != self.dim() ||
      source.size(dim) != index.numel()) {
    return false;
  }
  for (int64_t d = 0; d < self.dim(); ++d) {
    if (d != dim && source.size(d) != self.size(d)) return false;
  }
  const Tensor out = changed(op, *stack);
  if (!out.defined()) return false;
  if (!alpha.equal(1)) source = source.mul(alpha);
  const Tensor to = with_a_dim(out);
  Accumulation sums(to);
  sums.loop(index.numel(), 0, index.dim() == 0 ? 0 : index.stride(0));
  sums.index(index, to.size(dim), to.stride(dim));
  for (int64_t d = 0; d < self.dim(); ++d) {
    if (d != dim) sums.inner(self.size(d), to.stride(d), source.stride(d));
  }
  if (!sums.reduce(source, source.stride(dim), Reduce::kSum, true)) return false;
  give(op, stack, {out});
  return true;
}

bool embedding_backward(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 5);
  const Tensor grad = arguments[0].toTensor(), indices = packed(arguments[1].toTensor());
  const int64_t rows = arguments[2].toInt(), skipped = arguments[3].toInt();
  if (grad.layout() != c10::kStrided || !suffix_of(grad.scalar_type()) || grad.dim() != indices.dim() + 1 ||
      grad.sizes().slice(0, indices.dim()) != indices.sizes() || rows < 0 || !is_index(indices)) {
    return false;
  }
  const int64_t width = grad.size(-1);
  Tensor out = at::zeros({rows, width}, grad.options());
  Accumulation sums(out);
  sums.loop(indices.numel(), 0, 1);
  sums.index(indices, rows, width);
  if (skipped >= 0) sums.skip(skipped);
  sums.inner(width, 1, 1);
  const fallback::Writing writing(out.storage().unsafeGetStorageImpl(), 0, static_cast<int64_t>(out.nbytes()));
  const Reduce reduce = arguments[4].toBool() ? Reduce::kMean : Reduce::kSum;
  if (!sums.reduce(packed(grad), width, reduce, false)) return false;
  give(op, stack, {out});
  return true;
}

const OwnKernel kernels[] = {
    {"aten::scatter_add", scatter},         {"aten::scatter_add_", scatter},
    {"aten::scatter_add.out", scatter},     {"aten::scatter.reduce", scatter},
    {"aten::scatter_.reduce", scatter},     {"aten::scatter_reduce.two", scatter},
    {"aten::scatter_reduce_.two", scatter}, {"aten::scatter_reduce.two_out", scatter},
    {"aten::index_add", index_add},         {"aten::index_add_", index_add},
    {"aten::index_add.out", index_add},     {"aten::embedding_dense_backward", embedding_backward},
};

}  // namespace

bool add_at(const Tensor& table, const Places& places, const Tensor& values) {
  Accumulation sums(table);
  const int64_t width = places.indices[0].dim();
  std::vector<int64_t> order, rest;
  for (int64_t d = 0; d < values.dim(); ++d) {
    const bool of_indices = d >= places.first && d < places.first + width;
    (of_indices ? order : rest).push_back(d);
    if (of_indices) sums.loop(values.size(d), 0, places.indices[0].stride(d - places.first));
  }
  order.insert(order.end(), rest.begin(), rest.end());
  const Tensor sources = packed(values.permute(order));
  for (size_t k = 0; k < places.indices.size(); ++k) {
    sums.index(places.indices[k], table.size(places.indexed[k]), table.stride(places.indexed[k]));
  }
  int64_t d = width, elements = 1;
  for (int64_t dim = 0; dim < table.dim(); ++dim) {
    if (places.names(dim)) continue;
    sums.inner(table.size(dim), table.stride(dim), sources.stride(d++));
    elements *= table.size(dim);
  }
  return sums.reduce(sources, elements, Reduce::kSum, true);
}

}  // namespace blackwell_compat
