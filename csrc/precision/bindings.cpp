// Entering and leaving, and the lists.
#include "precision/bindings.h"

#include <pybind11/stl.h>

#include "precision/autocast.h"
#include "runtime/bindings.h"

namespace blackwell_compat::precision {
namespace {

namespace py = pybind11;
using runtime::dtype_of;

const char* name_of(Cast cast) {
  switch (cast) {
    case Cast::kLow:
      return "low";
    case Cast::kFull:
      return "float32";
    case Cast::kPromote:
      break;
  }
  return "widest";
}

std::vector<std::pair<std::string, std::string>> rules_by_name(const std::string& device) {
  std::vector<std::pair<std::string, std::string>> named;
  for (const Rule& rule : rules(c10::Device(device).type())) named.emplace_back("aten::" + rule.op, name_of(rule.cast));
  return named;
}

}  // namespace

void add_bindings(py::module_& m) {
  m.def("precision_enter", [](const py::object& cpu, const py::object& cuda) { enter(dtype_of(cpu), dtype_of(cuda)); });
  m.def("precision_leave", &leave);
  m.def("precision_is_active", &is_active);
  m.def("precision_rules", &rules_by_name);
}

}  // namespace blackwell_compat::precision
