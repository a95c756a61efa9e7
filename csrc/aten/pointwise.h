// Pointwise ops on a card: ATen's TensorIterator has PyTorch's rules for shapes, strides, dtypes and aliasing; a kernel of
// kernels/pointwise_ops.cuh computes what it lays out.
#pragma once
#include <ATen/TensorIterator.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <string>

#include "runtime/kernels.h"

namespace blackwell_compat {

// The kernels of one line of kernels/pointwise_ops.cuh.
struct PointwiseKernels {
  size_t line;
};

const PointwiseKernels& pointwise_kernels(const std::string& name);

// Computes what `iter` lays out, in `dtype`. False, and nothing is done, where there is no such kernel or too many dimensions.
bool compute_pointwise(at::TensorIteratorBase& iter, const PointwiseKernels& kernels, at::ScalarType dtype,
                       at::ArrayRef<c10::Scalar> numbers = {});

// How TensorIterator sees the op: operands of one dtype, which is the result's; promoted to a common one; to a common float;
// compared; as they are, with a result of dtype `made`.
enum class PointwiseForm { kSame, kPromoted, kFloat, kComparison, kMade };

// One call of an op.
struct PointwiseCall {
  PointwiseForm form;
  at::ScalarType made;
  at::ArrayRef<c10::IValue> arguments;  // all of them
  at::Tensor out;                       // where it is given, or written in place
  c10::SmallVector<at::Tensor, 3> inputs;
  c10::SmallVector<c10::Scalar, 3> numbers;
};

// Chooses the kernels of a call, and changes its operands and numbers where they are not the op's tensors and numbers in order.
// Null: ours do not take it.
using PointwiseChoice = const PointwiseKernels* (*)(PointwiseCall& call);

// Registers aten::`op` ("add.Tensor") with its in-place and out= forms.
void add_pointwise(const std::string& op, PointwiseForm form, const std::string& kernels);
void add_pointwise(const std::string& op, PointwiseForm form, PointwiseChoice choice);

}  // namespace blackwell_compat
