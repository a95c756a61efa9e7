// One value of the result from one of each operand, with broadcasting and conversion. What the host and the card share.
#pragma once
#include "kernels/quotient.cuh"
#include "kernels/scalar.cuh"

namespace blackwell_compat {

constexpr int kPointwiseThreads = 256, kMostPointwiseDims = 8, kMostPointwiseInputs = 3, kMostPointwiseScalars = 3;
constexpr int kPointwiseElements = 4;  // that a thread makes

// Where everything is dense it makes this many vectors, each of `pointwise_width` values.
constexpr int kPointwiseVectors = 2, kPointwiseAlignment = 16;
constexpr int pointwise_width(int bytes) { return bytes == 1 ? 8 : kPointwiseAlignment / bytes; }

struct PointwiseScalar {
  double real, imag;
  long long integer;
};

// Operand 0 is the result. Dimensions go from the innermost on; their product is `size`.
struct PointwiseParams {
  void* data[1 + kMostPointwiseInputs];             // null: `immediate`
  PointwiseScalar immediate[kMostPointwiseInputs];  // of operand i + 1
  PointwiseScalar scalar[kMostPointwiseScalars];
  ScalarKind kind[1 + kMostPointwiseInputs];
  int stride[1 + kMostPointwiseInputs][kMostPointwiseDims];  // bytes
  int extent[kMostPointwiseDims];
  unsigned by_extent[kMostPointwiseDims];  // divisor_of it
  int size, dims;
  bool dense;  // all operands lie alike in one aligned piece and need no conversion
};

}  // namespace blackwell_compat
