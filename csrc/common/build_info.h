// What this binary was built with and what the CPU side has done so far, for the doctor table.
#pragma once
#include <torch/csrc/utils/pybind.h>

namespace blackwell_compat {
void add_build_info(pybind11::module_& m);
}
