// The three ways to call an op.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

namespace blackwell_compat {

enum class Variant { kFunctional, kInPlace, kOut };

inline Variant variant_of(const c10::OperatorHandle& op) {
  const auto& arguments = op.schema().arguments();
  if (arguments.back().is_out()) return Variant::kOut;
  const c10::AliasInfo* const alias = arguments.front().alias_info();
  return alias && alias->isWrite() ? Variant::kInPlace : Variant::kFunctional;
}

// What a call that is not in-place writes to: a new tensor, or the one given as out=, resized. None where that is not of the
// dtype, or shares memory with an argument or itself.
at::Tensor destination(const c10::OperatorHandle& op, const torch::jit::Stack& stack, at::IntArrayRef sizes,
                       const at::TensorOptions& options);

// What a call that changes some elements of its first argument writes to: that tensor, or its copy. None as above.
at::Tensor changed(const c10::OperatorHandle& op, const torch::jit::Stack& stack);

// Dimension `dim` of `dims`, counted from the front; negative where there is none.
inline int64_t wrapped(int64_t dim, int64_t dims) { return dim < -dims || dim >= dims ? -1 : dim < 0 ? dim + dims : dim; }

}  // namespace blackwell_compat
