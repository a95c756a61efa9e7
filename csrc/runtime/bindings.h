// What Python sees of the runtime.
#pragma once
#include <pybind11/pybind11.h>

namespace blackwell_compat::runtime {
void add_bindings(pybind11::module_& m);
}
