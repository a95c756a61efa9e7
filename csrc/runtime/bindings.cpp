// Names in _C start with runtime_; python/blackwell_compat/compilers.py says what they mean.
#include "runtime/bindings.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "runtime/compiler.h"
#include "runtime/driver.h"
#include "runtime/kernel_cache.h"
#include "runtime/kernel_images.h"
#include "runtime/kernels.h"

namespace blackwell_compat::runtime {
namespace {

namespace py = pybind11;
using Unlocked = py::call_guard<py::gil_scoped_release>;

py::list list_compilers() {
  py::list result;
  for (const auto& one : compilers()) result.append(py::make_tuple(one->path(), one->version(), one->architectures()));
  return result;
}

std::pair<std::string, std::string> choose(int capability) {
  const Target target = target_for(capability);
  return {target.compiler->path(), target.architecture};
}

py::bytes compile(const std::string& name, const std::string& source, const std::vector<std::string>& options, int capability) {
  std::string code;
  {
    const py::gil_scoped_release unlocked;
    code = compiled(name, source, options, target_for(capability));
  }
  return code;
}

}  // namespace

void add_bindings(py::module_& m) {
  m.def("runtime_set_compilers", &set_compilers, Unlocked());
  m.def("runtime_compilers", &list_compilers);
  m.def("runtime_target", &choose, Unlocked());
  m.def("runtime_compile", &compile);
  m.attr("runtime_embedded") = py::make_tuple(kernel_images().architectures, kernel_images().toolkit);
  m.def("runtime_embedded_for", &embedded_for, Unlocked());
  m.def(
      "runtime_choose_image",
      [](const std::vector<int>& architectures, int toolkit, int capability, int driver_version, bool can_compile) {
        return choose_image({architectures, toolkit, {}}, capability, driver_version, can_compile);
      },
      Unlocked());
  m.def("runtime_cache_folder", &cache_folder, Unlocked());
  m.def("runtime_driver_version", &driver_version);
  m.def("runtime_kernel_names", &kernel_names);
  m.def("runtime_kernel_source", &kernel_source);
  m.def("runtime_kernel_options", &kernel_options);
  m.def("runtime_gather_kernels", &gather_kernels);
  m.def("runtime_gathered_kernels", [](int device) { return gathered_kernels(card(device)); });
  m.def("runtime_set_compile_notice", &set_compile_notice);
  m.def("runtime_set_memory_release", &set_memory_release);
  m.def(
      "runtime_load_kernels", [](const std::vector<std::string>& names, int device) { load_kernels(names, card(device)); },
      Unlocked());
}

}  // namespace blackwell_compat::runtime
