// The fallback for Python.
#pragma once
#include <torch/csrc/utils/pybind.h>

namespace blackwell_compat::fallback {
void add_bindings(pybind11::module_& m);
}
