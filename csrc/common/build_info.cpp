// The versions and counters that Python shows, where oneDNN does the CPU's work.
#include "common/build_info.h"

#include "common/onednn.h"
#include "common/pack_cache.h"

namespace py = pybind11;

namespace blackwell_compat {

void add_build_info(py::module_& m) {
  m.attr("onednn_version") = [] {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  }();
  m.def("cpu_dtypes", [] {
    py::dict dtypes;
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      dtypes[py::str(at::toString(dtype))] = at::toString(*onednn::compute_dtype(dtype));
    }
    return dtypes;
  });
  m.def("stats", [] {
    const PackStats packs = pack_stats();
    const auto& primitives = onednn::primitives();
    py::dict d;
    d["packs"] = packs.entries;
    d["pack_bytes"] = packs.bytes;
    d["pack_capacity"] = packs.capacity;
    d["packs_made"] = packs.made;
    d["packs_reused"] = packs.reused;
    d["packs_refused"] = packs.refused;
    d["primitives"] = primitives.size();
    d["primitives_created"] = primitives.created();
    d["primitive_capacity"] = primitives.capacity();
    return d;
  });
  m.def("clear_caches", [] {
    clear_packs();
    onednn::primitives().clear();
  });
}

}  // namespace blackwell_compat
