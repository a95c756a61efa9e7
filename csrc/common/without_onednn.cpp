// A build without oneDNN: every CPU kernel is ATen's, behind the same interface.
#include "common/build_info.h"
#include "ops/conv1d/conv1d.h"
#include "ops/conv_transpose1d/conv_transpose1d.h"
#include "ops/linear/linear.h"

namespace py = pybind11;

namespace blackwell_compat {

Tensor linear_cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act) {
  return linear_aten(input, weight, bias, pre, act);
}

Tensor conv1d_cpu(const Tensor&, const Tensor&, const OptTensor&, const Conv1dOptions&, const OptTensor&) { return {}; }

Tensor conv_transpose1d_cpu(const Tensor&, const Tensor&, const OptTensor&, const ConvTranspose1dOptions&) { return {}; }

void add_build_info(py::module_& m) {
  m.attr("onednn_version") = py::none();
  m.def("cpu_dtypes", [] { return py::dict(); });
  m.def("stats", [] { return py::dict(); });
  m.def("clear_caches", [] {});
}

}  // namespace blackwell_compat
