// The extension module: loading it registers the ops.
#include <torch/csrc/utils/pybind.h>

#include "common/build_info.h"
#include "common/fast_call.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "Operators of blackwell_compat; loading this module registers them in torch.ops.blackwell_compat";
  blackwell_compat::add_fast_calls(m.ptr());
  blackwell_compat::add_build_info(m);
}
