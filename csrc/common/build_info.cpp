// The versions and counters that Python shows.
#include "common/build_info.h"

#include "common/card_packs.h"
#include "common/cpu.h"
#include "common/pack_cache.h"

namespace py = pybind11;

namespace blackwell_compat {

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
    const PackStats packs = pack_stats();
    py::dict d;
    d["packs"] = packs.entries;
    d["pack_bytes"] = packs.bytes;
    d["pack_capacity"] = packs.capacity;
    d["packs_made"] = packs.made;
    d["packs_reused"] = packs.reused;
    d["packs_refused"] = packs.refused;
    const CardPackStats on_cards = card_pack_stats();
    d["card_packs"] = on_cards.entries;
    d["card_pack_bytes"] = on_cards.bytes;
    d["card_pack_capacity"] = on_cards.capacity;
    d["card_packs_made"] = on_cards.made;
    d["card_packs_reused"] = on_cards.reused;
    d["card_packs_refused"] = on_cards.refused;
    add_primitive_stats(d);
    return d;
  });
  m.def("clear_caches", [] {
    clear_packs();
    drop_card_packs();
    clear_primitives();
  });
}

}  // namespace blackwell_compat
