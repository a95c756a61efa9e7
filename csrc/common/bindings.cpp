// Names in _C start with kernels_; python/blackwell_compat/kernels.py says what they mean.
#include "common/bindings.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "common/conv_cuda.h"
#include "common/gemm_cuda.h"
#include "common/own_kernels.h"
#include "runtime/bindings.h"

namespace blackwell_compat {
namespace {

namespace py = pybind11;
using runtime::card;

using KernelsOf = std::vector<std::string>(at::ScalarType dtype, int capability);

template <KernelsOf kernels>
std::vector<std::string> kernels_for(const py::object& dtype, int capability) {
  const auto type = runtime::dtype_of(dtype);
  return gemm_takes(type) ? kernels(type, capability) : std::vector<std::string>();
}

}  // namespace

void add_kernel_bindings(py::module_& m) {
  m.def("kernels_set_judge", &set_judge);
  m.def("kernels_serve", [](int device) { return kernels_serve(card(device)); });
  m.def("kernels_set_serve", [](int device, bool serve) { set_kernels_serve(card(device), serve); });
  m.def("kernels_choose", [](int device, bool chosen) { choose_kernels(card(device), chosen); });
  m.def("kernels_for_linear", &kernels_for<gemm_kernels>);
  m.def("kernels_for_conv1d", &kernels_for<conv_kernels>);
}

}  // namespace blackwell_compat
