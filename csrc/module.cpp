// The extension module: loading it registers the ops.
#include <torch/csrc/utils/pybind.h>

#include "common/bindings.h"
#include "common/build_info.h"
#include "common/fast_call.h"
#include "common/give_back.h"
#include "fallback/bindings.h"
#include "precision/bindings.h"
#include "runtime/bindings.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "Operators of blackwell_compat; loading this module registers them in torch.ops.blackwell_compat";
  blackwell_compat::add_fast_calls(m.ptr());
  blackwell_compat::add_build_info(m);
  blackwell_compat::add_kernel_bindings(m);
  blackwell_compat::fallback::add_bindings(m);
  blackwell_compat::precision::add_bindings(m);
  blackwell_compat::runtime::add_bindings(m);
  m.def("give_back", &blackwell_compat::give_back, pybind11::call_guard<pybind11::gil_scoped_release>());
}
