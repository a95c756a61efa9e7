// The messages of this package: "<op>: <argument> must be <rule>, got <value>; <shapes>".
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#define BC_CHECK(op, cond, ...) TORCH_CHECK(cond, op ": ", __VA_ARGS__)

#define BC_CHECK_SIZE(op, tensor, dim, want, want_name)                                                                     \
  TORCH_CHECK((tensor).sym_size(dim) == (want), op ": " #tensor ".size(" #dim ") must be ", want, " (" want_name "), got ", \
              (tensor).sym_size(dim), "; " #tensor " is ", (tensor).sym_sizes())

namespace blackwell_compat {
// An argument's name from the expression that reads it: "bias" from "*bias".
constexpr const char* argument_name(const char* expression) { return expression + (*expression == '*' ? 1 : 0); }
}  // namespace blackwell_compat

#define BC_CHECK_NOT_COMPLEX(op, tensor)                                                                             \
  TORCH_CHECK_NOT_IMPLEMENTED(!(tensor).is_complex(), op ": " #tensor " must be real, got ", (tensor).scalar_type(), \
                              "; split it into real and imaginary part (torch.view_as_real)")

#define BC_CHECK_SAME_DTYPE(op, tensor, other)                                                                        \
  TORCH_CHECK((tensor).scalar_type() == (other).scalar_type(), op ": ", ::blackwell_compat::argument_name(#tensor),   \
              " must have the same dtype as " #other " (expected scalar type ", (other).scalar_type(), " but found ", \
              (tensor).scalar_type(), ")")

#define BC_CHECK_SAME_DEVICE(op, tensor, other)                                                                              \
  TORCH_CHECK((tensor).device() == (other).device(),                                                                         \
              op ": Expected all tensors to be on the same device: ", ::blackwell_compat::argument_name(#tensor), " is on ", \
              (tensor).device(), ", " #other " on ", (other).device())
