// torch.fft: a dimension at a time, its rows as frames of one STFT that is as long as they are.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
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

// Rows (rows, n) of one dimension to (rows, bins)
Tensor forward(const Tensor& rows, Bins bins, double scale) {
  const int64_t n = rows.size(1);
  const Tensor window = full_window_cuda({}, n, n, 1, rows.options().dtype(c10::toRealValueType(rows.scalar_type())));
  return analyse_cuda(rows, window, {n, 0, Pad::kConstant, 1}, bins, scale, 1).squeeze(1);
}

// Rows of bins, one-sided where values are real, to (rows, n)
Tensor backward(const Tensor& rows, int64_t n, bool real, double scale) {
  const Tensor window = full_window_cuda({}, n, n, 1, rows.options().dtype(c10::toRealValueType(rows.scalar_type())));
  return synthesise_cuda(rows.unsqueeze(2), window, n, {0, n}, {scale, 1, real, !real, false});
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

// A call of an op of torch.fft, with its dimensions in the order of memory that results have on the CPU: those that stay,
// then those that are transformed, both by stride; of a real transform the half dimension is the last.
struct Fft {
  Tensor self;
  c10::DimVector dims, order;
  double scale = 1;

  Fft(const Tensor& self, at::IntArrayRef given, bool half_dim) : self(self), order(self.dim()) {
    for (const int64_t dim : given) dims.push_back(wrapped(dim, self.dim()));
    const auto farther = [&](int64_t a, int64_t b) { return self.stride(a) > self.stride(b); };
    std::sort(dims.begin(), dims.end() - (half_dim ? 1 : 0), farther);
    std::iota(order.begin(), order.end(), int64_t{0});
    const auto stays = [&](int64_t d) { return std::find(dims.begin(), dims.end(), d) == dims.end(); };
    const auto end = std::partition(order.begin(), order.end(), stays);
    std::sort(order.begin(), end, farther);
    std::copy(dims.begin(), dims.end(), end);
  }

  void normalize(int64_t normalization, int64_t half_dim_size = -1) {
    double values = 1;
    for (const int64_t dim : dims) values *= static_cast<double>(self.size(dim));
    if (half_dim_size >= 0) values *= static_cast<double>(half_dim_size) / static_cast<double>(self.size(dims.back()));
    const auto by = static_cast<Normalization>(normalization);
    scale = by == Normalization::kNone ? 1 : by == Normalization::kByRoot ? 1 / std::sqrt(values) : 1 / values;
  }

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

Tensor every_dim(const Fft& fft, Tensor values, int64_t end, bool is_forward, double scale) {
  for (int64_t dim = fft.first_transformed(); dim < end; ++dim) {
    values = along(values, dim, [&](const Tensor& rows) {
      return is_forward ? forward(rows, Bins::kAll, scale) : backward(rows, rows.size(1), false, scale);
    });
    scale = 1;
  }
  return values;
}

bool finish(const c10::OperatorHandle& op, Stack* stack, const Tensor& result) {
  if (variant_of(op) == Variant::kFunctional) {
    give(op, stack, {result});
    return true;
  }
  const Tensor out = destination(op, *stack, result.sizes(), result.options());
  if (!out.defined()) return false;
  out.copy_(result);
  give(op, stack, {out});
  return true;
}

// (self, dim, normalization, onesided)
bool from_real(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const auto dims = arguments[1].toDimVector();
  if (!is_taken(self, dims, false)) return false;
  Fft fft(self, dims, true);
  fft.normalize(arguments[2].toInt());
  const auto bins = arguments[3].toBool() ? Bins::kOneSided : Bins::kAll;
  const Tensor half = along(fft.in_order(), self.dim() - 1, [&](const Tensor& rows) { return forward(rows, bins, fft.scale); });
  return finish(op, stack, fft.result(every_dim(fft, half, self.dim() - 1, true, 1)));
}

// (self, dim, normalization, last_dim_size)
bool to_real(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const auto dims = arguments[1].toDimVector();
  const int64_t size = arguments[3].toInt();
  if (!is_taken(self, dims, true) || size < 1 || size > kMostFftPoints) return false;
  Fft fft(self, dims, true);
  if (self.size(fft.dims.back()) != size / 2 + 1) return false;
  fft.normalize(arguments[2].toInt(), size);
  const Tensor half = every_dim(fft, fft.in_order(), self.dim() - 1, false, 1);
  const Tensor whole = along(half, self.dim() - 1, [&](const Tensor& rows) { return backward(rows, size, true, fft.scale); });
  return finish(op, stack, fft.result(whole));
}

// (self, dim, normalization, forward)
bool complex_to_complex(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const auto dims = arguments[1].toDimVector();
  if (!is_taken(self, dims, true)) return false;
  Fft fft(self, dims, false);
  fft.normalize(arguments[2].toInt());
  return finish(op, stack, fft.result(every_dim(fft, fft.in_order(), self.dim(), arguments[3].toBool(), fft.scale)));
}

const OwnKernel kernels[] = {
    {"aten::_fft_r2c", from_real},   {"aten::_fft_r2c.out", from_real},      {"aten::_fft_c2r", to_real},
    {"aten::_fft_c2r.out", to_real}, {"aten::_fft_c2c", complex_to_complex}, {"aten::_fft_c2c.out", complex_to_complex}};

}  // namespace
}  // namespace blackwell_compat
