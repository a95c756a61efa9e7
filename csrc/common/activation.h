// Activations that an op can apply before and after its arithmetic.
#pragma once
#include <ATen/ATen.h>
#include <c10/util/string_view.h>

#include <limits>
#include <string>
#include <string_view>

#include "common/check.h"

namespace blackwell_compat {

enum class Act : int8_t { kNone, kRelu, kLeakyRelu, kGelu, kGeluTanh, kSilu, kTanh };

struct Activation {
  Act kind = Act::kNone;
  double slope = 0;  // of leaky_relu, for negative values

  bool none() const { return kind == Act::kNone; }
  // x > 0 ? x : slope * x covers relu as well
  bool is_leaky() const { return kind == Act::kRelu || kind == Act::kLeakyRelu; }
};

// leaky_relu of float32 values. Relu of minus infinity is 0: infinity times a slope of 0 would be NaN.
struct Leaky {
  float slope, lowest;

  explicit Leaky(float slope)
      : slope(slope), lowest(slope == 0 ? std::numeric_limits<float>::lowest() : -std::numeric_limits<float>::infinity()) {}
  float operator()(float value) const {
    const float finite = value < lowest ? lowest : value;
    return finite > 0 ? finite : finite * slope;
  }
};

inline Activation parse_activation(std::string_view name, double slope) {
  if (name == "none") return {};
  if (name == "relu") return {Act::kRelu, 0};
  if (name == "leaky_relu") return {Act::kLeakyRelu, slope};
  if (name == "gelu") return {Act::kGelu, 0};
  if (name == "gelu_tanh") return {Act::kGeluTanh, 0};
  if (name == "silu") return {Act::kSilu, 0};
  if (name == "tanh") return {Act::kTanh, 0};
  TORCH_CHECK_VALUE(false, "activation must be one of none, relu, leaky_relu, gelu, gelu_tanh, silu, tanh, got '",
                    std::string(name), "'");
}

// The same activation by ATen: differentiable, any device, any dtype.
inline at::Tensor apply_activation(const at::Tensor& input, Activation activation) {
  switch (activation.kind) {
    case Act::kRelu:
      return at::relu(input);
    case Act::kLeakyRelu:
      return at::leaky_relu(input, activation.slope);
    case Act::kGelu:
      return at::gelu(input, "none");
    case Act::kGeluTanh:
      return at::gelu(input, "tanh");
    case Act::kSilu:
      return at::silu(input);
    case Act::kTanh:
      return at::tanh(input);
    case Act::kNone:
      break;
  }
  return input;
}

}  // namespace blackwell_compat
