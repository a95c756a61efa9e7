// torch.fft: a dimension at a time, its rows as frames of one STFT that is as long as they are.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "aten/variants.h"
#include "common/fft_cuda.h"
#include "common/own_kernels.h"
#include "ops/istft/istft.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

enum class Normalization : int64_t { kNone, kByRoot, kBySize };  // PyTorch's numbers

Tensor ones(int64_t n, const Tensor& rows) {
  return full_window_cuda({}, n, n, 1, rows.options().dtype(c10::toRealValueType(rows.scalar_type())));
}

// Rows (rows, n) of one dimension to (rows, bins)
Tensor forward(const Tensor& rows, Bins bins, double scale) {
  const int64_t n = rows.size(1);
  return analyse_cuda(rows, ones(n, rows), {n, 0, Pad::kConstant, 1}, bins, scale, 1).squeeze(1);
}

// Rows of bins, one-sided where values are real, to (rows, n)
Tensor backward(const Tensor& rows, int64_t n, bool real, double scale) {
  return synthesise_cuda(rows.unsqueeze(2), ones(n, rows), n, {0, n}, {scale, 1, real, !real, false});
}

template <class Transform>
Tensor along(const Tensor& tensor, int64_t dim, Transform transform) {
  const Tensor last = tensor.transpose(dim, -1);
  const int64_t n = last.size(-1);
  const Tensor rows = transform(last.reshape({last.numel() / n, n}));
  c10::DimVector sizes(last.sizes());
  sizes.back() = rows.size(1);
  return rows.view(sizes).transpose(dim, -1);
}

enum class Kind { kFromReal, kToReal, kComplex };

// A call of an op of torch.fft, with its dimensions in the order of memory that results have on the CPU: those that stay,
// then those that are transformed, both by stride; of a real transform the half dimension is the last.
struct Fft {
  Tensor self;
  c10::DimVector dims, order;
  int64_t last_size;  // of the last transformed dimension, in values
  double scale;

  int64_t first_transformed() const { return self.dim() - static_cast<int64_t>(dims.size()); }
  Tensor in_order() const { return self.permute(order); }

  // The result of a call from the values in that order
  Tensor result(const Tensor& values) const {
    std::vector<int64_t> back(order.size());
    for (size_t i = 0; i < order.size(); ++i) back[order[i]] = static_cast<int64_t>(i);
    return values.contiguous().view(values.sizes()).permute(back);  // view: strides as if no size were 1
  }
};

bool is_taken(const Tensor& self, at::IntArrayRef dims, bool complex) {
  const auto dtype = complex ? c10::toRealValueType(self.scalar_type()) : self.scalar_type();
  const bool long_rows = std::any_of(self.sizes().begin(), self.sizes().end(), [](int64_t n) { return n > kMostFftPoints; });
  return self.layout() == c10::kStrided && self.is_complex() == complex && (dtype == at::kFloat || dtype == at::kDouble) &&
         !dims.empty() && !long_rows && std::all_of(dims.begin(), dims.end(), [&](int64_t dim) { return self.size(dim) > 0; });
}

double scale_of(Normalization by, double values) {
  return by == Normalization::kNone ? 1 : by == Normalization::kByRoot ? 1 / std::sqrt(values) : 1 / values;
}

// By the algorithms that PyTorch takes: they decide where strides are equal
void put_in_order(Fft& fft, at::IntArrayRef given, bool half_dim) {
  auto& dims = fft.dims;
  auto& order = fft.order;
  const auto farther = [&](int64_t a, int64_t b) { return fft.self.stride(a) > fft.self.stride(b); };
  for (const int64_t dim : given) dims.push_back(wrapped(dim, fft.self.dim()));
  std::sort(dims.begin(), dims.end() - (half_dim ? 1 : 0), farther);
  order.resize(fft.self.dim());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto stays = [&](int64_t d) { return std::find(dims.begin(), dims.end(), d) == dims.end(); };
  const auto end = std::partition(order.begin(), order.end(), stays);
  std::sort(order.begin(), end, farther);
  std::copy(dims.begin(), dims.end(), end);
}

// Of the arguments (self, dim, normalization, ...); none where a call is not taken
std::optional<Fft> fft_of(c10::ArrayRef<c10::IValue> arguments, Kind kind) {
  const Tensor self = arguments[0].toTensor();
  const auto given = arguments[1].toDimVector();
  if (!is_taken(self, given, kind != Kind::kFromReal)) return std::nullopt;
  Fft fft{self, {}, {}, self.size(given.back()), 1};
  if (kind == Kind::kToReal) {
    const int64_t bins = fft.last_size;
    fft.last_size = arguments[3].toInt();
    if (fft.last_size < 1 || fft.last_size > kMostFftPoints || bins != fft.last_size / 2 + 1) return std::nullopt;
  }
  auto values = static_cast<double>(fft.last_size);
  for (size_t i = 0; i + 1 < given.size(); ++i) values *= static_cast<double>(self.size(given[i]));
  fft.scale = scale_of(static_cast<Normalization>(arguments[2].toInt()), values);
  put_in_order(fft, given, kind != Kind::kComplex);
  return fft;
}

Tensor every_dim(const Fft& fft, Tensor values, int64_t end, bool is_forward, double scale) {
  for (int64_t dim = fft.first_transformed(); dim < end; ++dim) {
    values = along(values, dim, [&](const Tensor& rows) {
      return is_forward ? forward(rows, Bins::kAll, scale) : backward(rows, rows.size(1), false, scale);
    });
    scale = 1;
  }
  return values;
}

bool give_result(const c10::OperatorHandle& op, Stack* stack, const Tensor& result) {
  Tensor out = result;
  if (variant_of(op) != Variant::kFunctional) {
    out = destination(op, *stack, result.sizes(), result.options());
    if (!out.defined()) return false;
    out.copy_(result);
  }
  give(op, stack, {out});
  return true;
}

// (self, dim, normalization, onesided)
bool from_real(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const auto fft = fft_of(arguments, Kind::kFromReal);
  if (!fft) return false;
  const auto bins = arguments[3].toBool() ? Bins::kOneSided : Bins::kAll;
  const int64_t last = fft->self.dim() - 1;
  const Tensor half = along(fft->in_order(), last, [&](const Tensor& rows) { return forward(rows, bins, fft->scale); });
  return give_result(op, stack, fft->result(every_dim(*fft, half, last, true, 1)));
}

// (self, dim, normalization, last_dim_size)
bool to_real(const c10::OperatorHandle& op, Stack* stack) {
  const auto fft = fft_of(torch::jit::last(*stack, op.schema().arguments().size()), Kind::kToReal);
  if (!fft) return false;
  const int64_t last = fft->self.dim() - 1;
  const Tensor half = every_dim(*fft, fft->in_order(), last, false, 1);
  const Tensor whole = along(half, last, [&](const Tensor& rows) { return backward(rows, fft->last_size, true, fft->scale); });
  return give_result(op, stack, fft->result(whole));
}

// (self, dim, normalization, forward)
bool complex_to_complex(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const auto fft = fft_of(arguments, Kind::kComplex);
  if (!fft) return false;
  const bool is_forward = arguments[3].toBool();
  return give_result(op, stack, fft->result(every_dim(*fft, fft->in_order(), fft->self.dim(), is_forward, fft->scale)));
}

const OwnKernel kernels[] = {
    {"aten::_fft_r2c", from_real},   {"aten::_fft_r2c.out", from_real},      {"aten::_fft_c2r", to_real},
    {"aten::_fft_c2r.out", to_real}, {"aten::_fft_c2c", complex_to_complex}, {"aten::_fft_c2c.out", complex_to_complex}};

}  // namespace
}  // namespace blackwell_compat
