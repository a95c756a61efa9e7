// What Python sees of the choice between kernels.
#pragma once
#include <pybind11/pybind11.h>

namespace blackwell_compat {
void add_kernel_bindings(pybind11::module_& m);
}
