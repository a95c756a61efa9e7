// A call of one of PyTorch's ops, boxed, passed on to one of this package's.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <string>
#include <utility>

namespace blackwell_compat {

// Whether an optional tensor is not given; an undefined one is how autograd hands that on.
inline bool is_absent(const c10::IValue& value) { return value.isNone() || (value.isTensor() && !value.toTensor().defined()); }

inline at::Tensor optional_tensor(const c10::IValue& value) { return is_absent(value) ? at::Tensor() : value.toTensor(); }

inline c10::OperatorHandle own_op(const std::string& name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(("blackwell_compat::" + name).c_str(), "");
}

// The last `count` values of `stack` give way to what `op` of this package returns for `arguments`, and its defaults for the
// rest.
inline void pass_on(torch::jit::Stack* stack, size_t count, const c10::OperatorHandle& op, torch::jit::Stack arguments) {
  for (c10::IValue& value : arguments) {
    if (is_absent(value)) value = c10::IValue();
  }
  const auto& wanted = op.schema().arguments();
  for (size_t i = arguments.size(); i < wanted.size(); ++i) arguments.push_back(wanted[i].default_value().value());
  op.callBoxed(&arguments);
  torch::jit::drop(*stack, count);
  for (c10::IValue& result : arguments) stack->push_back(std::move(result));
}

}  // namespace blackwell_compat
