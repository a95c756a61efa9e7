// What Python sees of the runtime, and how it names cards and dtypes.
#pragma once
#include <c10/core/Device.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/Dtype.h>

namespace blackwell_compat::runtime {

// Card `index`, as Python names it.
inline c10::Device card(int index) { return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)}; }

inline c10::ScalarType dtype_of(const pybind11::object& dtype) { return reinterpret_cast<THPDtype*>(dtype.ptr())->scalar_type; }

void add_bindings(pybind11::module_& m);
}  // namespace blackwell_compat::runtime
