// copy_ within a card, fill_ and zero_: by the driver where bytes are all there is, else as pointwise ops.
#include "runtime/copy.h"

#include <ATen/ops/empty_strided.h>
#include <c10/core/DeviceGuard.h>

#include <cmath>

#include "aten/pointwise.h"
#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

// Kernels that change both parts of a complex number, or none
const PointwiseKernels* between(const Tensor& to, const Tensor& from) {
  static const PointwiseKernels &copy = pointwise_kernels("copy"), &neg = pointwise_kernels("neg"),
                                &conj = pointwise_kernels("conj");
  if (to.is_conj() == from.is_conj()) return to.is_neg() == from.is_neg() ? &copy : &neg;
  return to.is_neg() == from.is_neg() ? &conj : nullptr;
}

at::ScalarType of_size(size_t bytes) {
  return bytes == 1 ? at::kByte : bytes == 2 ? at::kShort : bytes == 4 ? at::kInt : at::kLong;
}

bool copy_to(const Tensor& to, const Tensor& from) {
  if (to.layout() != c10::kStrided || from.layout() != c10::kStrided || (from.is_cuda() && from.device() != to.device()))
    return false;
  const PointwiseKernels* const kernels = between(to, from);
  if (!kernels) return false;
  const bool same = to.scalar_type() == from.scalar_type() && to.is_conj() == from.is_conj() && to.is_neg() == from.is_neg();
  if (same && from.is_cuda() && to.sizes() == from.sizes() && to.strides() == from.strides() &&
      to.is_non_overlapping_and_dense()) {
    runtime::copy_between(to.mutable_data_ptr(), to.device(), from.const_data_ptr(), from.device(), to.nbytes());
    return true;
  }
  if (same && !to.is_complex() && from.is_cuda()) {
    const auto bits = of_size(to.element_size());
    if (to.scalar_type() != bits && to.scalar_type() != at::kBool) return copy_to(to.view(bits), from.view(bits));
  }
  auto iter = at::TensorIteratorConfig()
                  .add_output(to)
                  .add_const_input(from)
                  .resize_outputs(false)
                  .check_all_same_dtype(false)
                  .allow_cpu_scalars(true)
                  .build();
  return compute_pointwise(iter, *kernels, from.scalar_type());
}

// Whether every dtype of integers has the value; PyTorch refuses one that does not fit.
bool fits_anywhere(double value) { return value >= 0 && value <= 127; }

bool fill_all(const Tensor& self, const c10::Scalar& value) {
  if (self.layout() != c10::kStrided || value.isComplex() > self.is_complex()) return false;
  const bool zero = value.isIntegral(true) && value.toLong() == 0;
  if (zero && self.is_non_overlapping_and_dense()) {
    runtime::clear(self.mutable_data_ptr(), self.nbytes(), self.device());
    return true;
  }
  if (c10::isIntegralType(self.scalar_type(), true) && !value.isIntegral(true) && !fits_anywhere(value.toDouble())) return false;
  auto iter = at::TensorIteratorConfig()
                  .add_output(self)
                  .set_check_mem_overlap(false)
                  .check_all_same_dtype(false)
                  .resize_outputs(false)
                  .build();
  static const PointwiseKernels& kernels = pointwise_kernels("fill");
  return compute_pointwise(iter, kernels, self.scalar_type(), value);
}

// `computed` returns whether argument 0 of `count` was written; it is the result, then.
template <size_t count, typename F>
bool in_place(Stack* stack, const F& computed) {
  const auto arguments = torch::jit::last(*stack, count);
  const Tensor self = arguments[0].toTensor();
  const c10::DeviceGuard guard(self.device());
  if (self.numel() > 0 && !computed(self, arguments)) return false;
  give(stack, count, {self});
  return true;
}

using Arguments = at::ArrayRef<c10::IValue>;

constexpr double kExact = 1LL << 52;  // below it whole numbers are what a double says

bool copy_in_place(Stack* stack) {
  return in_place<3>(stack, [](const Tensor& self, Arguments given) { return copy_to(self, given[1].toTensor()); });
}

bool fill_with_number(Stack* stack) {
  return in_place<2>(stack, [](const Tensor& self, Arguments given) { return fill_all(self, given[1].toScalar()); });
}

bool fill_with_tensor(Stack* stack) {
  return in_place<2>(stack, [](const Tensor& self, Arguments given) {
    const Tensor& value = given[1].toTensor();
    return value.dim() == 0 && copy_to(self, value);
  });
}

bool zero(Stack* stack) {
  return in_place<1>(stack, [](const Tensor& self, Arguments) { return fill_all(self, 0); });
}

// where(mask, value, self), written in place; a mask of other than bool goes to the CPU, which refuses it
bool masked_fill(Stack* stack) {
  return in_place<3>(stack, [](const Tensor& self, Arguments given) {
    const Tensor& mask = given[1].toTensor();
    if (mask.scalar_type() != at::kBool || self.layout() != c10::kStrided) return false;
    Tensor value = given[2].isTensor() ? given[2].toTensor() : c10::scalar_to_tensor(given[2].toScalar());
    if (value.dim() > 0 || value.is_complex() > self.is_complex()) return false;
    if (value.is_floating_point() && c10::isIntegralType(self.scalar_type(), true)) {
      if (given[2].isTensor()) return false;  // its number may be on the card
      const double number = given[2].toScalar().toDouble();
      if (std::trunc(number) != number || std::abs(number) >= kExact) return false;
      value = c10::scalar_to_tensor(static_cast<int64_t>(number));
    }
    auto iter = at::TensorIteratorConfig()
                    .set_check_mem_overlap(false)
                    .check_all_same_dtype(false)
                    .resize_outputs(false)
                    .allow_cpu_scalars(true)
                    .add_output(self)
                    .add_const_input(mask)
                    .add_const_input(value)
                    .add_const_input(self)
                    .build();
    static const PointwiseKernels& kernels = pointwise_kernels("where");
    return compute_pointwise(iter, kernels, self.scalar_type());
  });
}

const OwnKernel copied("aten::copy_", &copy_in_place);
const OwnKernel filled("aten::fill_.Scalar", &fill_with_number);
const OwnKernel filled_with_tensor("aten::fill_.Tensor", &fill_with_tensor);
const OwnKernel zeroed("aten::zero_", &zero);
const OwnKernel masked("aten::masked_fill_.Scalar", &masked_fill);
const OwnKernel masked_with_tensor("aten::masked_fill_.Tensor", &masked_fill);

}  // namespace
}  // namespace blackwell_compat
