// PyTorch's running sums, products and extremes by this package's kernels.
#include "kernels/scan.cuh"

#include <ATen/WrapDimUtils.h>
#include <c10/core/DeviceGuard.h>

#include "aten/results.h"
#include "aten/rows.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::ScalarType;
using at::Tensor;
using torch::jit::Stack;

bool takes(const Tensor& self) {
  const bool known = kernel_dtype(self.scalar_type()) || at::isIntegralType(self.scalar_type(), true);
  return known && self.is_cuda() && self.layout() == c10::kStrided && self.numel() < kMostRowElements;
}

// The dtype that values of `dtype` are scanned in
ScalarType scanned(ScalarType dtype) { return kernel_dtype(dtype) ? dtype : at::kLong; }

// Of dense tensors in a dtype that scanned() returns
void compute(const std::string& what, ScanParams p, const Tensor& in, int64_t dim, const Tensor& out, const Tensor& indices) {
  if (in.numel() == 0) return;
  const c10::DeviceGuard guard(in.device());
  p.in = in.const_data_ptr(), p.out = out.mutable_data_ptr();
  p.indices = indices.defined() ? indices.mutable_data_ptr() : nullptr;
  p.n = in.dim() ? in.size(dim) : 1;
  p.inner = in.dim() ? c10::multiply_integers(in.sizes().slice(dim + 1)) : 1;
  p.rows = in.numel() / p.n;
  p.team = std::min(team_of(p.n, static_cast<int>(in.element_size()), kScanValues), kMostScanTeam);
  auto grid = team_grid(p.rows, p.team, in.device());
  grid.shared_bytes = kScanSharedBytes;
  const char* const dtype = in.scalar_type() == at::kLong ? "i64" : kernel_dtype(in.scalar_type());
  runtime::launch("compat_scan_" + what + "_" + dtype, in.device(), grid, &p);
}

// (self, dim[, dtype][, out])
bool scan(const c10::OperatorHandle& op, Stack* stack, const char* what, bool with_dtype) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  if (!takes(self)) return false;
  const int64_t dim = at::maybe_wrap_dim(arguments[1].toInt(), self.dim());
  const auto given = with_dtype ? arguments[2].toOptional<ScalarType>() : std::nullopt;
  auto dtype = given.value_or(with_dtype && at::isIntegralType(self.scalar_type(), true) ? at::kLong : self.scalar_type());
  const auto& last = arguments.back();
  if (op.schema().is_mutable() && !given) dtype = (last.isTensor() ? last.toTensor() : self).scalar_type();
  const bool known = kernel_dtype(dtype) || (with_dtype && dtype != at::kBool && at::isIntegralType(dtype, false));
  if (!known || (at::isFloatingType(self.scalar_type()) && !kernel_dtype(dtype))) return false;
  const Tensor result = result_of(op, *stack, self, self.sizes(), dtype);
  if (!result.defined()) return false;
  const Tensor out = dense_for(result, scanned(dtype));
  compute(what, {}, self.to(out.scalar_type()).contiguous(), dim, out, {});
  finish(out, result);
  give(op, stack, {result});
  return true;
}

bool sums(const c10::OperatorHandle& op, Stack* stack) { return scan(op, stack, "sum", true); }
bool products(const c10::OperatorHandle& op, Stack* stack) { return scan(op, stack, "prod", true); }
bool log_sums(const c10::OperatorHandle& op, Stack* stack) { return scan(op, stack, "logsum", false); }

// (self, values, indices, dim)
template <bool smallest>
bool extremes(Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 4);
  const Tensor self = arguments[0].toTensor(), values = arguments[1].toTensor(), indices = arguments[2].toTensor();
  if (!takes(self) || values.scalar_type() != self.scalar_type() || indices.scalar_type() != at::kLong ||
      values.sizes() != self.sizes() || indices.sizes() != self.sizes()) {
    return false;
  }
  const int64_t dim = at::maybe_wrap_dim(arguments[3].toInt(), self.dim());
  ScanParams p{};
  p.smallest = smallest;
  const auto dtype = scanned(self.scalar_type());
  const Tensor out = dense_for(values, dtype), places = dense_for(indices, at::kLong);
  compute("extreme", p, self.to(dtype).contiguous(), dim, out, places);
  finish(out, values);
  finish(places, indices);
  torch::jit::drop(*stack, 4);
  return true;
}

const OwnKernel cumsum("aten::cumsum", &sums), cumsum_out("aten::cumsum.out", &sums), cumsum_in_place("aten::cumsum_", &sums),
    cumprod("aten::cumprod", &products), cumprod_out("aten::cumprod.out", &products),
    cumprod_in_place("aten::cumprod_", &products), logcumsumexp("aten::_logcumsumexp", &log_sums),
    logcumsumexp_out("aten::_logcumsumexp.out", &log_sums), cummax("aten::_cummax_helper", &extremes<false>),
    cummin("aten::_cummin_helper", &extremes<true>);

}  // namespace
}  // namespace blackwell_compat
