// What Python sees of the precision policy.
#pragma once
#include <pybind11/pybind11.h>

namespace blackwell_compat::precision {
void add_bindings(pybind11::module_& m);
}
