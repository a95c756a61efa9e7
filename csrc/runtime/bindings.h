// What Python sees of the runtime.
#pragma once
#include <c10/core/Device.h>
#include <pybind11/pybind11.h>

namespace blackwell_compat::runtime {

// Card `index`, as Python names it.
inline c10::Device card(int index) { return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)}; }

void add_bindings(pybind11::module_& m);
}  // namespace blackwell_compat::runtime
