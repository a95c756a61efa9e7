// What this binary was built with and what the CPU side has done so far, for the doctor table.
#pragma once
#include <torch/csrc/utils/pybind.h>

namespace blackwell_compat {

void add_build_info(pybind11::module_& m);

// Of oneDNN, or of its absence: onednn_info.cpp or without_onednn.cpp.
pybind11::object onednn_version();
void add_primitive_stats(pybind11::dict& stats);
void clear_primitives();

}  // namespace blackwell_compat
