// The versions and counters that Python shows.
#include "common/build_info.h"

#include <string>

#include "common/card_packs.h"
#include "common/cpu.h"
#include "common/pack_cache.h"

namespace py = pybind11;

namespace blackwell_compat {
namespace {

void add_pack_stats(py::dict& to, const std::string& where, const PackStats& stats) {
  const auto put = [&](const char* name, size_t value) { to[py::str(where + name)] = value; };
  put("packs", stats.entries);
  put("pack_bytes", stats.bytes);
  put("pack_capacity", stats.capacity);
  put("packs_made", stats.made);
  put("packs_reused", stats.reused);
  put("packs_refused", stats.refused);
}

}  // namespace

void add_build_info(py::module_& m) {
  m.attr("onednn_version") = onednn_version();
  m.attr("cpu_isa") = cpu_isa_name();
  m.def("cpu_dtypes", [] {
    py::dict dtypes;
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      dtypes[py::str(at::toString(dtype))] = at::toString(*compute_dtype(dtype));
    }
    return dtypes;
  });
  m.def("stats", [] {
    const auto [of_host, of_cards] = [] {
      const py::gil_scoped_release unlocked;
      return std::pair(pack_stats(), card_pack_stats());
    }();
    py::dict d;
    add_pack_stats(d, "", of_host);
    add_pack_stats(d, "card_", of_cards);
    add_primitive_stats(d);
    return d;
  });
  m.def(
      "clear_caches",
      [] {
        clear_packs();
        drop_card_packs();
        clear_primitives();
      },
      py::call_guard<py::gil_scoped_release>());
}

}  // namespace blackwell_compat
