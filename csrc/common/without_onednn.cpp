// A build without oneDNN: bfloat16 and float16 are computed in float32, by this package's own kernels.
#include "common/build_info.h"
#include "common/conv_step.h"
#include "common/half_matmul.h"

namespace py = pybind11;

namespace blackwell_compat {

std::optional<at::ScalarType> compute_dtype(at::ScalarType dtype) {
  if (dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf) return at::kFloat;
  return std::nullopt;
}

// What follows is never reached: compute_dtype names no other dtype than float32.
Packed pack_half_matmul(const at::Tensor&, at::ScalarType) { return {}; }
void half_matmul(const at::Tensor&, const Packed&, const at::Tensor&, Activation, const at::Tensor&) {}
Packed pack_onednn(const at::Tensor&, const ConvLayer&, at::ScalarType) { return {}; }
std::unique_ptr<ConvStep> step_onednn(const ConvLayer&, at::ScalarType, const Packed&, const void*) { return nullptr; }

py::object onednn_version() { return py::none(); }
void add_primitive_stats(py::dict&) {}
void clear_primitives() {}

}  // namespace blackwell_compat
