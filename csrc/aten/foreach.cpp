// Ops on lists of tensors, which PyTorch's own kernels fuse: tensor by tensor.
#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

#include "common/own_kernels.h"

namespace blackwell_compat {
namespace {

const bool added = [] {
  constexpr auto key = c10::DispatchKey::CompositeExplicitAutograd;
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getRegistrationsForDispatchKey(key)) {
    if (name.name.rfind("aten::_foreach_", 0) != 0) continue;
    OwnKernel(name.overload_name.empty() ? name.name : name.name + "." + name.overload_name, key);
  }
  return true;
}();

}  // namespace
}  // namespace blackwell_compat
