// Names in _C start with fallback_; what they mean to users stands in python/blackwell_compat/fallback.py.
#include "fallback/bindings.h"

#include <pybind11/stl.h>

#include "common/card_packs.h"
#include "fallback/boxed.h"
#include "fallback/call.h"
#include "fallback/counters.h"
#include "fallback/registry.h"
#include "fallback/shadow.h"
#include "fallback/widened.h"
#include "runtime/host_memory.h"

namespace blackwell_compat::fallback {
namespace {

namespace py = pybind11;
using Unlocked = py::call_guard<py::gil_scoped_release>;

void set_notice_by_name(const std::string& name) {
  TORCH_CHECK_VALUE(name == "silent" || name == "warn" || name == "error",
                    "BLACKWELL_COMPAT_FALLBACK must be silent, warn or error, got ", name);
  set_notice(name == "silent" ? Notice::kSilent : name == "warn" ? Notice::kWarn : Notice::kError);
}

py::dict counts_by_name() {
  py::dict result;
  for (const auto& [op, c] : counts()) {
    result[py::str(op)] = py::make_tuple(c.calls, c.nanoseconds, c.to_host, c.to_host_bytes, c.to_device, c.to_device_bytes);
  }
  return result;
}

void invalidate(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.has_storage()) return;
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  if (const c10::Storage host = find_shadow(storage)) forget_widened(host.unsafeGetStorageImpl());
  const auto [begin, end] = extent(tensor);
  const Writing written(storage, begin, end);
}

void expose_storage(const at::Storage& storage) {
  if (storage.device().is_cuda()) expose(storage.unsafeGetStorageImpl());
}

void expose_tensor(const at::Tensor& tensor) {
  if (tensor.layout() == c10::kStrided && tensor.has_storage()) expose_storage(tensor.storage());
}

void drop_copies() {
  drop_shadows();
  forget_all_widened();
  drop_card_packs();
}

}  // namespace

void add_bindings(py::module_& m) {
  m.def("fallback_install", &install, Unlocked());
  m.def("fallback_uninstall", &uninstall, Unlocked());
  m.def("fallback_installed", &installed, Unlocked());
  m.def("fallback_coverage", &coverage, Unlocked());
  m.def("fallback_counts", &counts_by_name);
  m.def("fallback_reset_counts", &reset_counts, Unlocked());
  m.def("fallback_set_notice", &set_notice_by_name);
  m.def("fallback_set_lazy", &set_lazy, Unlocked());
  m.def("fallback_begin_lazy_call", &begin_lazy_call, Unlocked());
  m.def("fallback_end_lazy_call", &end_lazy_call, Unlocked());
  m.def("fallback_flush", &flush_all, Unlocked());
  m.def("fallback_expose", &expose_tensor, Unlocked());
  m.def("fallback_expose", &expose_storage, Unlocked());
  m.def("fallback_invalidate", &invalidate, Unlocked());
  m.def("fallback_drop_copies", &drop_copies, Unlocked());
  m.def("fallback_set_host_limit", &set_shadow_limit, Unlocked());
  m.def("fallback_host_limit", &shadow_limit, Unlocked());
  m.def("fallback_host_bytes", &shadow_bytes, Unlocked());
  m.def("fallback_set_pinned_limit", &runtime::set_pinned_limit, Unlocked());
  m.def("fallback_pinned_limit", &runtime::pinned_limit, Unlocked());
  m.def("fallback_pinned_bytes", &runtime::pinned_bytes, Unlocked());
}

}  // namespace blackwell_compat::fallback
