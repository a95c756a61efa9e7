// One value of the result from one of each operand, with broadcasting and conversion. What the host and the card share.
#pragma once
#include "kernels/quotient.cuh"
#include "kernels/scalar.cuh"

namespace blackwell_compat {

constexpr int kPointwiseThreads = 256, kMostPointwiseDims = 8, kMostPointwiseInputs = 3, kMostPointwiseScalars = 3;
constexpr int kPointwiseElements = 4;  // that a thread makes

// Where the values of lines lie next to each other it makes this many vectors, each of `pointwise_width` values: enough that what
// is on the way from memory keeps it busy.
constexpr int pointwise_vectors(int operands) { return operands == 1 ? 4 : 2; }
constexpr int kPointwiseAlignment = 16;
constexpr int pointwise_width(int bytes) { return bytes == 1 ? 8 : kPointwiseAlignment / bytes; }

// Which other dtypes vectors may have: of an operand, beside bool, 16-bit floats as float32, and of the result these three
constexpr bool pointwise_widens(ScalarKind computed) { return computed == ScalarKind::kFloat; }
constexpr bool pointwise_casts(ScalarKind kind) {
  return kind == ScalarKind::kFloat || kind == ScalarKind::kHalf || kind == ScalarKind::kBFloat16;
}

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
  // Along the innermost dimension each operand has its values next to each other, or one for all; vectors are aligned to 16
  // bytes, or to as many as they have. The dimension counts vectors then, `size` still values, and only where it is the one
  // dimension may values be left.
  bool packs;
};

}  // namespace blackwell_compat
