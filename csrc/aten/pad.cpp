// constant_pad_nd, reflection_pad and replication_pad with their gradients.
#include "kernels/pad.cuh"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "aten/nest.h"
#include "aten/variants.h"
#include "common/ceil_div.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

struct Dim {
  int64_t size, padded, before, from_stride, to_stride;  // size: without the padding
};

// Sizes and `before` as PyTorch gives them: pairs, the last dimension first.
std::vector<Dim> dims_of(const Tensor& from, const Tensor& to, const Tensor& unpadded, const Tensor& padded,
                         at::IntArrayRef padding) {
  std::vector<Dim> dims;
  for (int64_t d = 0; d < from.dim(); ++d) {
    const auto pair = static_cast<size_t>(from.dim() - 1 - d);
    const int64_t before = 2 * pair < padding.size() ? padding[2 * pair] : 0;
    dims.push_back({unpadded.size(d), padded.size(d), before, from.stride(d), to.stride(d)});
  }
  return dims;
}

// As few as there can be. Where `shifts`, a padded dimension takes in the one behind it that is not padded.
void join(std::vector<Dim>& dims, bool shifts) {
  const auto is_padded = [](const Dim& dim) { return dim.before != 0 || dim.size != dim.padded; };
  std::vector<Dim> joined;
  for (const Dim& dim : dims) {
    if (dim.size == 1 && !is_padded(dim)) continue;
    if (!joined.empty() && !is_padded(dim) && (shifts || !is_padded(joined.back()))) {
      Dim& outer = joined.back();
      if (outer.from_stride == dim.from_stride * dim.size && outer.to_stride == dim.to_stride * dim.size) {
        outer = {outer.size * dim.size, outer.padded * dim.size, outer.before * dim.size, dim.from_stride, dim.to_stride};
        continue;
      }
    }
    joined.push_back(dim);
  }
  if (joined.empty()) joined.push_back({1, 1, 0, 1, 1});
  dims = std::move(joined);
}

bool fill_in(PadParams& p, const std::vector<Dim>& dims, int64_t elements) {
  if (dims.size() > static_cast<size_t>(kPadDims) || elements > std::numeric_limits<int>::max()) return false;
  const size_t missing = kPadDims - dims.size();
  for (size_t d = 0; d < static_cast<size_t>(kPadDims); ++d) {
    const Dim dim = d < missing ? Dim{1, 1, 0, 0, 0} : dims[d - missing];
    p.sizes[d] = dim.size, p.padded[d] = dim.padded, p.before[d] = dim.before;
    p.from_strides[d] = dim.from_stride, p.to_strides[d] = dim.to_stride;
  }
  p.elements = static_cast<unsigned>(elements), p.dims = static_cast<int>(dims.size());
  return true;
}

// The bytes that can be moved at a time: where the last dimension is whole in both.
int64_t unit_of(const std::vector<Dim>& dims, int64_t element, const PadParams& p) {
  const Dim& inner = dims.back();
  if (p.fill != Fill::kConstant || inner.from_stride != 1 || inner.to_stride != 1) return element;
  std::vector<int64_t> lengths{inner.size, inner.padded, inner.before};
  for (size_t d = 0; d + 1 < dims.size(); ++d) lengths.insert(lengths.end(), {dims[d].from_stride, dims[d].to_stride});
  int64_t unit = 16;
  const auto fits = [&](int64_t length) { return length * element % unit == 0; };
  const auto aligned = [&] { return address_of(p.from) % unit == 0 && address_of(p.to) % unit == 0; };
  while (unit > element && !(aligned() && std::all_of(lengths.begin(), lengths.end(), fits))) unit /= 2;
  return unit;
}

bool pad(const Tensor& from, const Tensor& to, at::IntArrayRef padding, Fill fill, const at::Scalar& value) {
  if (to.numel() == 0) return true;
  const int64_t element = to.element_size();
  std::vector<Dim> dims = dims_of(from, to, from, to, padding);
  join(dims, fill == Fill::kConstant);
  PadParams p{};
  p.from = from.const_data_ptr(), p.to = to.mutable_data_ptr(), p.fill = fill;
  if (fill == Fill::kConstant) {
    const Tensor host = at::scalar_tensor(value, at::device(at::kCPU).dtype(to.scalar_type()));
    auto* const bytes = reinterpret_cast<unsigned char*>(p.value);
    for (int64_t at = 0; at < 16; at += element) std::memcpy(bytes + at, host.const_data_ptr(), element);
  }
  const int64_t unit = unit_of(dims, element, p), elements = to.numel() * element / unit;
  if (unit != element) {
    for (Dim& dim : dims) dim.from_stride = dim.from_stride * element / unit, dim.to_stride = dim.to_stride * element / unit;
    Dim& inner = dims.back();
    const auto in_units = [&](int64_t length) { return length * element / unit; };
    inner = {in_units(inner.size), in_units(inner.padded), in_units(inner.before), 1, 1};
  }
  if (!fill_in(p, dims, elements)) return false;
  const c10::DeviceGuard guard(to.device());
  const std::string name = "compat_pad_b" + std::to_string(unit);
  runtime::launch(name, to.device(), {ceil_div(elements, kPadThreads * kPadUnitsOfThread), kPadThreads, 0}, &p);
  return true;
}

c10::DimVector padded_sizes(const Tensor& self, at::IntArrayRef padding) {
  c10::DimVector sizes(self.sizes());
  for (size_t i = 0; i < padding.size(); ++i) sizes[sizes.size() - 1 - i / 2] += padding[i];
  return sizes;
}

bool constant_pad(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  const Tensor self = arguments[0].toTensor();
  const auto padding = arguments[1].toIntVector();
  const at::Scalar value = arguments[2].toScalar();
  if (self.layout() != c10::kStrided || padding.size() % 2 != 0 || static_cast<int64_t>(padding.size()) > 2 * self.dim() ||
      (value.isComplex() && !self.is_complex())) {
    return false;
  }
  const c10::DimVector sizes = padded_sizes(self, padding);
  if (std::any_of(sizes.begin(), sizes.end(), [](int64_t size) { return size < 0; })) return false;
  if (std::all_of(padding.begin(), padding.end(), [](int64_t width) { return width <= 0; })) {
    Tensor rest = self;
    for (size_t i = 0; i < padding.size(); i += 2) {
      const int64_t d = self.dim() - 1 - static_cast<int64_t>(i / 2);
      if (padding[i] < -self.size(d) || padding[i + 1] < -self.size(d)) return false;
      rest = rest.narrow(d, -padding[i], sizes[static_cast<size_t>(d)]);
    }
    give(op, stack, {rest.clone()});
    return true;
  }
  const Tensor out = at::empty(sizes, self.options().memory_format(self.suggest_memory_format()));
  if (!pad(self, out, padding, Fill::kConstant, value)) return false;
  give(op, stack, {out});
  return true;
}

// Whether PyTorch pads the last dimensions of `sizes` like this: a channel and maybe a batch before them, nothing empty.
bool is_padding(at::IntArrayRef sizes, at::IntArrayRef padding, size_t spatial, Fill fill) {
  if (padding.size() != 2 * spatial || (sizes.size() != spatial + 1 && sizes.size() != spatial + 2)) return false;
  if (std::any_of(sizes.begin(), sizes.end(), [](int64_t size) { return size == 0; })) return false;
  for (size_t i = 0; i < padding.size(); i += 2) {
    const int64_t size = sizes[sizes.size() - 1 - i / 2];
    if (size + padding[i] + padding[i + 1] < 1) return false;
    if (fill == Fill::kReflect && (padding[i] >= size || padding[i + 1] >= size)) return false;
    if (padding[i] <= -size || padding[i + 1] <= -size) return false;
  }
  return true;
}

bool is_plain(const Tensor& tensor) {
  return tensor.layout() == c10::kStrided && tensor.suggest_memory_format() == at::MemoryFormat::Contiguous;
}

template <size_t spatial, Fill fill>
bool pad_by(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor self = arguments[0].toTensor();
  const auto padding = arguments[1].toIntVector();
  const auto dtype = self.scalar_type();
  if ((!kernel_dtype(dtype) && !at::isComplexType(dtype)) || !is_plain(self) ||
      !is_padding(self.sizes(), padding, spatial, fill)) {
    return false;
  }
  const Tensor out = destination(op, *stack, padded_sizes(self, padding), self.options());
  if (!out.defined() || !pad(self, out, padding, fill, 0)) return false;
  give(op, stack, {out});
  return true;
}

template <size_t spatial, Fill fill>
bool pad_by_backward(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const Tensor grad = arguments[0].toTensor(), self = arguments[1].toTensor();
  const auto padding = arguments[2].toIntVector();
  const char* const dtype = kernel_dtype(self.scalar_type());
  if (!dtype || grad.scalar_type() != self.scalar_type() || !is_plain(self) || grad.layout() != c10::kStrided ||
      !is_padding(self.sizes(), padding, spatial, fill) || grad.sizes() != at::IntArrayRef(padded_sizes(self, padding))) {
    return false;
  }
  const Tensor out = destination(op, *stack, self.sizes(), self.options());
  PadParams p{};
  p.from = grad.const_data_ptr(), p.fill = fill;
  if (!out.defined() || !fill_in(p, dims_of(grad, out, self, grad, padding), out.numel())) return false;
  p.to = out.mutable_data_ptr();
  const c10::DeviceGuard guard(out.device());
  const std::string name = std::string("compat_pad_gradient_") + dtype;
  runtime::launch(name, out.device(), {ceil_div(out.numel(), kPadThreads), kPadThreads, 0}, &p);
  give(op, stack, {out});
  return true;
}

template <size_t spatial, Fill fill>
struct PadKernels {
  explicit PadKernels(const std::string& name)
      : functional(name, &pad_by<spatial, fill>),
        out(name + ".out", &pad_by<spatial, fill>),
        backward(name + "_backward", &pad_by_backward<spatial, fill>),
        backward_out(name + "_backward.grad_input", &pad_by_backward<spatial, fill>) {}
  OwnKernel functional, out, backward, backward_out;
};

const OwnKernel constant("aten::constant_pad_nd", &constant_pad);
const PadKernels<1, Fill::kReflect> reflect1("aten::reflection_pad1d");
const PadKernels<2, Fill::kReflect> reflect2("aten::reflection_pad2d");
const PadKernels<3, Fill::kReflect> reflect3("aten::reflection_pad3d");
const PadKernels<1, Fill::kReplicate> replicate1("aten::replication_pad1d");
const PadKernels<2, Fill::kReplicate> replicate2("aten::replication_pad2d");
const PadKernels<3, Fill::kReplicate> replicate3("aten::replication_pad3d");

}  // namespace
}  // namespace blackwell_compat
