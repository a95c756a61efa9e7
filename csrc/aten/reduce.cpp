// PyTorch's reductions by this package's kernels.
#include <ATen/WrapDimUtils.h>
#include <ATen/WrapDimUtilsMulti.h>

#include "aten/reduce_cuda.h"
#include "aten/results.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::ScalarType;
using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

Dims all_dims(const Tensor& self) { return ~Dims() >> (64 - self.dim()); }

Dims one_dim(int64_t dim, const Tensor& self) { return Dims(1) << at::maybe_wrap_dim(dim, self.dim()); }

// None, and an empty list unless it is one for the op, are all
Dims dims_of(const IValue& dims, const Tensor& self, bool empty_is_none = false) {
  if (dims.isNone()) return all_dims(self);
  const auto list = dims.toDimVector();
  return list.empty() && !empty_is_none ? all_dims(self) : at::dim_list_to_bitset(list, self.dim());
}

c10::DimVector sizes_without(const Tensor& self, Dims dims, bool keepdim) {
  c10::DimVector sizes;
  for (int64_t d = 0; d < self.dim(); ++d) {
    if (!dims[d]) {
      sizes.push_back(self.size(d));
    } else if (keepdim) {
      sizes.push_back(1);
    }
  }
  return sizes;
}

bool has_values(const Tensor& self, Dims dims) {
  for (int64_t d = 0; d < self.dim(); ++d) {
    if (dims[d] && self.size(d) == 0) return false;
  }
  return true;
}

const char* integer_kernel(ScalarType dtype) {
  switch (dtype) {
    case at::kLong:
      return "i64";
    case at::kInt:
      return "i32";
    case at::kByte:
    case at::kBool:
      return "u8";
    default:
      return nullptr;
  }
}

const char* any_kernel(ScalarType dtype) {
  const char* const of_floats = kernel_dtype(dtype);
  return of_floats ? of_floats : integer_kernel(dtype);
}

bool widens(const Tensor& self, ScalarType dtype) {
  return dtype == at::kFloat && (self.scalar_type() == at::kHalf || self.scalar_type() == at::kBFloat16);
}

// Whether values of `self` can be added or multiplied in `dtype`
bool adds_in(const std::string& what, ReduceKind kind, const Tensor& self, ScalarType dtype) {
  if (at::isComplexType(dtype)) return what == "sum" && self.scalar_type() == dtype && dtype != at::kComplexHalf;
  if (self.is_complex()) return false;
  if (at::isFloatingType(dtype))
    return kernel_dtype(dtype) && (at::isIntegralType(self.scalar_type(), true) || kernel_dtype(self.scalar_type()));
  return dtype != at::kBool && kind != ReduceKind::kMean && at::isIntegralType(self.scalar_type(), true);
}

// In the dtype of `result`
void add_or_multiply(const std::string& what, ReduceKind kind, const Tensor& self, Dims dims, const Tensor& result) {
  const auto dtype = result.scalar_type();
  if (at::isComplexType(dtype)) {
    const Tensor dense = dense_for(result, dtype);
    add_or_multiply(what, kind, at::view_as_real(self), dims, at::view_as_real(dense));
    return finish(dense, result);
  }
  ReduceParams p{};
  p.kind = kind;
  if (at::isFloatingType(dtype)) {
    p.wide = widens(self, dtype);
    const Tensor in = p.wide ? self : self.to(dtype), out = dense_for(result, dtype);
    reduce_cuda(what + "_" + kernel_dtype(in.scalar_type()), p, in, dims, out);
    return finish(out, result);
  }
  p.wide = true;
  const bool as_it_is = integer_kernel(self.scalar_type()) && (what == "sum" || self.scalar_type() == at::kLong);
  const Tensor in = as_it_is ? self : self.to(at::kLong), out = dense_for(result, at::kLong);
  reduce_cuda(what + "_" + integer_kernel(in.scalar_type()), p, in, dims, out);
  finish(out, result);
}

// (self[, dim, keepdim], dtype[, out]) of sum, mean and prod
enum class DimArgument { kNone, kOne, kSome };

template <DimArgument dim_argument>
bool add_or_multiply_call(const c10::OperatorHandle& op, Stack* stack, const char* what, ReduceKind kind) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  if (!reduce_takes(self)) return false;
  Dims dims = all_dims(self);
  bool keepdim = false;
  if constexpr (dim_argument != DimArgument::kNone) {
    dims = dim_argument == DimArgument::kOne ? one_dim(arguments[1].toInt(), self) : dims_of(arguments[1], self);
    keepdim = arguments[2].toBool();
  }
  const auto given = arguments[dim_argument == DimArgument::kNone ? 1 : 3].toOptional<ScalarType>();
  const bool promotes = kind != ReduceKind::kMean && at::isIntegralType(self.scalar_type(), true);
  auto dtype = given.value_or(promotes ? at::kLong : self.scalar_type());
  if (op.schema().is_mutable() && !given) dtype = arguments.back().toTensor().scalar_type();
  if (!adds_in(what, kind, self, dtype)) return false;
  const Tensor result = result_of(op, *stack, self, sizes_without(self, dims, keepdim), dtype);
  if (!result.defined()) return false;
  add_or_multiply(what, kind, self, dims, result);
  give(op, stack, {result});
  return true;
}

template <DimArgument dim_argument>
bool sum(const c10::OperatorHandle& op, Stack* stack) {
  return add_or_multiply_call<dim_argument>(op, stack, "sum", ReduceKind::kPlain);
}
template <DimArgument dim_argument>
bool mean(const c10::OperatorHandle& op, Stack* stack) {
  return add_or_multiply_call<dim_argument>(op, stack, "sum", ReduceKind::kMean);
}
template <DimArgument dim_argument>
bool product(const c10::OperatorHandle& op, Stack* stack) {
  return add_or_multiply_call<dim_argument>(op, stack, "prod", ReduceKind::kPlain);
}

// Extremes; those that only need the values or the indices leave the other undefined
bool has_extreme_kernel(const Tensor& self) {
  const auto dtype = self.scalar_type();
  return reduce_takes(self) && (any_kernel(dtype) || dtype == at::kShort || dtype == at::kChar);
}

void extremes(ReduceKind kind, const Tensor& self, Dims dims, const Tensor& values, const Tensor& indices) {
  ReduceParams p{};
  p.kind = kind;
  const Tensor in = any_kernel(self.scalar_type()) ? self : self.to(at::kInt);
  const Tensor out = values.defined() ? dense_for(values, in.scalar_type()) : values;
  const Tensor places = indices.defined() ? dense_for(indices, at::kLong) : indices;
  reduce_cuda(std::string("extreme_") + any_kernel(in.scalar_type()), p, in, dims, out, places, true);
  if (values.defined()) finish(out, values);
  if (indices.defined()) finish(places, indices);
}

// amax(self, dim, keepdim[, out])
template <ReduceKind kind>
bool extreme_values(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  if (!has_extreme_kernel(self)) return false;
  const Dims dims = dims_of(arguments[1], self);
  if (!has_values(self, dims)) return false;
  const Tensor result = result_of(op, *stack, self, sizes_without(self, dims, arguments[2].toBool()), self.scalar_type());
  if (!result.defined()) return false;
  extremes(kind, self, dims, result, {});
  give(op, stack, {result});
  return true;
}

// max(self[, out])
template <ReduceKind kind>
bool extreme_of_all(const c10::OperatorHandle& op, Stack* stack) {
  const Tensor self = torch::jit::last(*stack, op.schema().arguments().size())[0].toTensor();
  if (!has_extreme_kernel(self) || self.numel() == 0) return false;
  const Tensor result = result_of(op, *stack, self, {}, self.scalar_type());
  if (!result.defined()) return false;
  extremes(kind, self, all_dims(self), result, {});
  give(op, stack, {result});
  return true;
}

// max(self, dim, keepdim[, values, indices])
template <ReduceKind kind>
bool extremes_and_places(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  if (!has_extreme_kernel(self)) return false;
  const Dims dims = one_dim(arguments[1].toInt(), self);
  if (!has_values(self, dims)) return false;
  const auto sizes = sizes_without(self, dims, arguments[2].toBool());
  std::vector<Tensor> results;
  if (op.schema().is_mutable()) {
    results = {resized(arguments[3].toTensor(), sizes, self.scalar_type(), self),
               resized(arguments[4].toTensor(), sizes, at::kLong, self)};
    if (!results[0].defined() || !results[1].defined()) return false;
  } else {
    results = {at::empty(sizes, self.options()), at::empty(sizes, self.options().dtype(at::kLong))};
  }
  extremes(kind, self, dims, results[0], results[1]);
  give(op, stack, std::move(results));
  return true;
}

// argmax(self, dim, keepdim[, out])
template <ReduceKind kind>
bool extreme_places(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  if (!has_extreme_kernel(self) || self.scalar_type() == at::kBool) return false;
  const Dims dims = arguments[1].isNone() ? all_dims(self) : one_dim(arguments[1].toInt(), self);
  if (!has_values(self, dims)) return false;
  const auto sizes = sizes_without(self, dims, arguments[2].toBool());
  const Tensor result = result_of(op, *stack, self, sizes, at::kLong);
  if (!result.defined()) return false;
  extremes(kind, self, dims, {}, result);
  give(op, stack, {result});
  return true;
}

// any(self[, dim, keepdim][, out]): values that are not zero
template <DimArgument dim_argument, ReduceKind kind>
bool truth(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  if (!reduce_takes(self) || self.is_complex()) return false;
  Dims dims = all_dims(self);
  bool keepdim = false;
  if constexpr (dim_argument != DimArgument::kNone) {
    dims = dim_argument == DimArgument::kOne ? one_dim(arguments[1].toInt(), self) : dims_of(arguments[1], self, true);
    keepdim = arguments[2].toBool();
  }
  const auto dtype = self.scalar_type() == at::kByte ? at::kByte : at::kBool;
  const Tensor result = result_of(op, *stack, self, sizes_without(self, dims, keepdim), dtype);
  if (!result.defined()) return false;
  const Tensor out = dense_for(result, dtype);
  ReduceParams p{};
  p.kind = kind;
  p.ignored_bits = self.is_floating_point() ? 1 : 0;
  const int64_t bytes = self.element_size();
  const char* const bits = bytes == 1 ? "u8" : bytes == 2 ? "i16" : bytes == 4 ? "i32" : "i64";
  reduce_cuda(std::string("truth_") + bits, p, self, dims, out);
  finish(out, result);
  give(op, stack, {result});
  return true;
}

// var(self, dim, correction, keepdim[, out])
template <ReduceKind kind, bool with_mean>
bool variance(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  if (!reduce_takes(self) || !kernel_dtype(self.scalar_type())) return false;
  const Dims dims = dims_of(arguments[1], self);
  ReduceParams p{};
  p.kind = kind;
  p.correction = arguments[2].isNone() ? 1 : arguments[2].toScalar().toDouble();
  const auto sizes = sizes_without(self, dims, arguments[3].toBool());
  if (c10::multiply_integers(sizes) * p.correction >= self.numel()) return false;  // PyTorch warns
  const Tensor result = result_of(op, *stack, self, sizes, self.scalar_type());
  if (!result.defined()) return false;
  const Tensor out = dense_for(result, self.scalar_type()), mean = with_mean ? at::empty(sizes, self.options()) : Tensor();
  reduce_cuda(std::string("var_") + kernel_dtype(self.scalar_type()), p, self, dims, out, mean);
  finish(out, result);
  with_mean ? give(op, stack, {result, mean}) : give(op, stack, {result});
  return true;
}

NormKind norm_kind(double order) {
  if (order == 2) return NormKind::kSquares;
  if (order == 1) return NormKind::kSizes;
  if (order == 0) return NormKind::kNonzero;
  if (std::isinf(order)) return order > 0 ? NormKind::kLargest : NormKind::kSmallest;
  return NormKind::kPower;
}

// (self, order, dim, keepdim, dtype or not[, out])
template <bool with_dtype>
bool norm(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  if (!reduce_takes(self) || !kernel_dtype(self.scalar_type())) return false;
  const double order = arguments[1].isNone() ? 2 : arguments[1].toScalar().toDouble();
  const Dims dims = dims_of(arguments[2], self);
  if (std::isnan(order) || ((std::isinf(order) || order < 0) && !has_values(self, dims))) return false;
  const auto dtype = with_dtype ? arguments[4].toOptional<ScalarType>().value_or(self.scalar_type()) : self.scalar_type();
  if (!kernel_dtype(dtype) || at::promote_types(dtype, self.scalar_type()) != dtype) return false;
  const Tensor result = result_of(op, *stack, self, sizes_without(self, dims, arguments[3].toBool()), dtype);
  if (!result.defined()) return false;
  ReduceParams p{};
  p.norm = norm_kind(order), p.order = order, p.wide = widens(self, dtype);
  const Tensor in = p.wide ? self : self.to(dtype), out = dense_for(result, dtype);
  reduce_cuda(std::string("norm_") + kernel_dtype(in.scalar_type()), p, in, dims, out);
  finish(out, result);
  give(op, stack, {result});
  return true;
}

// (self, other): every one of their values
bool equal(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 2);
  const Tensor self = arguments[0].toTensor(), other = arguments[1].toTensor();
  if (!self.is_cuda() || self.device() != other.device() || self.scalar_type() != other.scalar_type()) return false;
  const bool all = self.sizes() == other.sizes() && (self.numel() == 0 || at::eq(self, other).all().item<bool>());
  torch::jit::drop(*stack, 2);
  stack->emplace_back(all);
  return true;
}

// (self, dim, keepdim, dtype)
bool sum_of_numbers(Stack* stack) {
  const auto given = torch::jit::last(*stack, 4);
  const Tensor self = given[0].toTensor();
  if (!kernel_dtype(self.scalar_type())) return false;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Tensor numbers = at::nan_to_num(self, 0, kInfinity, -kInfinity);
  const auto dims = given[1].isNone() ? c10::DimVector() : given[1].toDimVector();
  give(stack, 4, {at::sum(numbers, dims, given[2].toBool(), given[3].toOptional<at::ScalarType>())});
  return true;
}

const OwnKernel nansum("aten::nansum", &sum_of_numbers);
const OwnKernel sum_dims("aten::sum.dim_IntList", &sum<DimArgument::kSome>),
    sum_out("aten::sum.IntList_out", &sum<DimArgument::kSome>), mean_dims("aten::mean.dim", &mean<DimArgument::kSome>),
    mean_out("aten::mean.out", &mean<DimArgument::kSome>), prod_all("aten::prod", &product<DimArgument::kNone>),
    prod_dim("aten::prod.dim_int", &product<DimArgument::kOne>), prod_out("aten::prod.int_out", &product<DimArgument::kOne>);

constexpr auto kMax = ReduceKind::kMax, kMin = ReduceKind::kMin, kAny = ReduceKind::kAny, kAll = ReduceKind::kAll;
const OwnKernel amax("aten::amax", &extreme_values<kMax>), amax_out("aten::amax.out", &extreme_values<kMax>),
    amin("aten::amin", &extreme_values<kMin>), amin_out("aten::amin.out", &extreme_values<kMin>),
    max("aten::max", &extreme_of_all<kMax>), max_out("aten::max.unary_out", &extreme_of_all<kMax>),
    min("aten::min", &extreme_of_all<kMin>), min_out("aten::min.unary_out", &extreme_of_all<kMin>),
    max_dim("aten::max.dim", &extremes_and_places<kMax>), max_dim_out("aten::max.dim_max", &extremes_and_places<kMax>),
    min_dim("aten::min.dim", &extremes_and_places<kMin>), min_dim_out("aten::min.dim_min", &extremes_and_places<kMin>),
    argmax("aten::argmax", &extreme_places<kMax>), argmax_out("aten::argmax.out", &extreme_places<kMax>),
    argmin("aten::argmin", &extreme_places<kMin>), argmin_out("aten::argmin.out", &extreme_places<kMin>);

const OwnKernel any("aten::any", &truth<DimArgument::kNone, kAny>), any_dim("aten::any.dim", &truth<DimArgument::kOne, kAny>),
    any_dims("aten::any.dims", &truth<DimArgument::kSome, kAny>),
    any_all_out("aten::any.all_out", &truth<DimArgument::kNone, kAny>), any_out("aten::any.out", &truth<DimArgument::kOne, kAny>),
    any_dims_out("aten::any.dims_out", &truth<DimArgument::kSome, kAny>), all("aten::all", &truth<DimArgument::kNone, kAll>),
    all_dim("aten::all.dim", &truth<DimArgument::kOne, kAll>), all_dims_("aten::all.dims", &truth<DimArgument::kSome, kAll>),
    all_all_out("aten::all.all_out", &truth<DimArgument::kNone, kAll>), all_out("aten::all.out", &truth<DimArgument::kOne, kAll>),
    all_dims_out("aten::all.dims_out", &truth<DimArgument::kSome, kAll>);

const OwnKernel var("aten::var.correction", &variance<ReduceKind::kVar, false>),
    var_out("aten::var.correction_out", &variance<ReduceKind::kVar, false>),
    std_("aten::std.correction", &variance<ReduceKind::kStd, false>),
    std_out("aten::std.correction_out", &variance<ReduceKind::kStd, false>),
    var_mean("aten::var_mean.correction", &variance<ReduceKind::kVar, true>),
    std_mean("aten::std_mean.correction", &variance<ReduceKind::kStd, true>);

const OwnKernel vector_norm("aten::linalg_vector_norm", &norm<true>),
    vector_norm_out("aten::linalg_vector_norm.out", &norm<true>), norm_dim("aten::norm.ScalarOpt_dim", &norm<false>),
    norm_out("aten::norm.out", &norm<false>), norm_dtype("aten::norm.ScalarOpt_dim_dtype", &norm<true>),
    norm_dtype_out("aten::norm.dtype_out", &norm<true>);

const OwnKernel equal_("aten::equal", &equal);

}  // namespace
}  // namespace blackwell_compat
