// oneDNN's part of what Python shows.
#include "common/build_info.h"
#include "common/onednn.h"

namespace py = pybind11;

namespace blackwell_compat {

py::object onednn_version() {
  const dnnl_version_t* v = dnnl_version();
  return py::str(std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch));
}

void add_primitive_stats(py::dict& stats) {
  const auto& primitives = onednn::primitives();
  stats["primitives"] = primitives.size();
  stats["primitives_created"] = primitives.created();
  stats["primitive_capacity"] = primitives.capacity();
}

void clear_primitives() { onednn::primitives().clear(); }

}  // namespace blackwell_compat
