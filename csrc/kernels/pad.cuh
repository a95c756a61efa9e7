// Padding with a constant, by reflection, or with the last value, and the gradients of the latter two. What the host and the card
// share.
#pragma once

namespace blackwell_compat {

constexpr int kPadThreads = 256, kPadUnitsOfThread = 4, kPadDims = 5;

enum class Fill : int { kConstant, kReflect, kReplicate };

// What is padded lies in the padded from `before` on; strides count elements. Forward `from` is padded to `to`, backward `from`,
// the gradient of the padded, becomes `to`, that of what was padded.
struct PadParams {
  const void* from;
  void* to;
  long long sizes[kPadDims], padded[kPadDims], before[kPadDims], from_strides[kPadDims], to_strides[kPadDims];
  unsigned elements;  // of `to`
  int dims;           // the last ones; the others have one element
  Fill fill;
  unsigned value[4];  // an element's bytes
};

}  // namespace blackwell_compat
