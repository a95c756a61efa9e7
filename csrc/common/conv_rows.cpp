// A float32 block by products of rows (row_gemm.h): a row of the product is an output position, its columns the channels.
// Beside it two shapes for which that wastes the vectors: few output channels, and one channel a group.
#include <algorithm>

#include "common/clones.h"
#include "common/conv_step.h"
#include "common/cpu.h"
#include "common/row_gemm.h"

namespace blackwell_compat {
namespace {

constexpr int64_t kBlockBytes = 256 << 10;  // input and output of a block: a quarter of a usual second-level cache

// Where the weight overflows the cache a block is long, so that the weight passes by less often.
int64_t longest(const ConvLayer& layer) {
  const int64_t row_bytes = 4 * (layer.c_in * layer.stride + layer.c_out);
  const int64_t weight_bytes = 4 * layer.c_in * layer.c_out * layer.kernel / layer.groups;
  const int64_t wanted = std::clamp<int64_t>(kBlockBytes / row_bytes, weight_bytes > kBlockBytes ? 192 : 48, 2048);
  return wanted / 12 * 12;
}

class Float32Step : public ConvStep {
 public:
  Float32Step(const ConvLayer& layer, const Packed& weight, const float* bias)
      : layer_(layer),
        weight_(weight.parts[0].const_data_ptr<float>()),
        bias_(bias),
        slope_(layer.act.is_leaky() ? layer.act.slope : 1) {}

  int64_t longest_block() const override { return longest(layer_); }
  int64_t block_length(int64_t positions) const override { return positions; }

 protected:
  const ConvLayer& layer_;
  const float* const weight_;
  const float* const bias_;
  const float slope_;
};

// Taps that follow each other in memory are one long stretch of products.
struct Stretch {
  int64_t depth, taps;
  explicit Stretch(const ConvLayer& layer) : depth(layer.c_in / layer.groups), taps(layer.kernel) {
    if (layer.dilation == 1 && layer.groups == 1) depth *= std::exchange(taps, 1);
  }
};

class RowsStep : public Float32Step {
 public:
  using Float32Step::Float32Step;

  void compute(int64_t positions, const void* source, void* target) const override {
    const Stretch stretch(layer_);
    const int64_t inputs = layer_.c_in / layer_.groups, outputs = layer_.c_out / layer_.groups;
    const int64_t size = rows::packed_size(outputs, stretch.depth, stretch.taps);
    const rows::Product product{
        positions,    outputs, stretch.depth, stretch.taps, layer_.stride * layer_.c_in, layer_.dilation * layer_.c_in,
        layer_.c_out, slope_};
    for (int64_t g = 0; g < layer_.groups; ++g) {
      rows::multiply(product, static_cast<const float*>(source) + g * inputs, weight_ + g * size,
                     bias_ == nullptr ? nullptr : bias_ + g * outputs, static_cast<float*>(target) + g * outputs, 0,
                     rows::panels(outputs));
    }
  }
};

class FewStep : public Float32Step {
 public:
  using Float32Step::Float32Step;

  void compute(int64_t positions, const void* source, void* target) const override {
    const Stretch stretch(layer_);
    const int64_t inputs = layer_.c_in / layer_.groups, outputs = layer_.c_out / layer_.groups;
    const auto* x = static_cast<const float*>(source);
    auto* y = static_cast<float*>(target);
    const Leaky activation(slope_);
    for (int64_t p = 0; p < positions; ++p, x += layer_.stride * layer_.c_in) {
      for (int64_t n = 0; n < layer_.c_out; ++n, ++y) {
        const float value = (bias_ == nullptr ? 0 : bias_[n]) +
                            rows::scalar_product(x + n / outputs * inputs, weight_ + n * inputs * layer_.kernel, stretch.depth,
                                                 stretch.taps, layer_.dilation * layer_.c_in);
        *y = activation(value);
      }
    }
  }
};

// y(c) = bias(c) + sum over t of x(t, c) w(t, c)
BC_CLONES void channel_by_channel(const float* x, const float* w, const float* bias, int64_t channels, int64_t taps, int64_t step,
                                  float slope, float* __restrict y) {
  for (int64_t c = 0; c < channels; ++c) y[c] = bias == nullptr ? 0 : bias[c];
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < channels; ++c) y[c] += x[t * step + c] * w[t * channels + c];
  }
  if (slope == 1) return;
  const Leaky activation(slope);
  for (int64_t c = 0; c < channels; ++c) y[c] = activation(y[c]);
}

class DepthwiseStep : public Float32Step {
 public:
  using Float32Step::Float32Step;

  void compute(int64_t positions, const void* source, void* target) const override {
    const int64_t channels = layer_.c_in;
    for (int64_t p = 0; p < positions; ++p) {
      channel_by_channel(static_cast<const float*>(source) + p * layer_.stride * channels, weight_, bias_, channels,
                         layer_.kernel, layer_.dilation * channels, slope_, static_cast<float*>(target) + p * channels);
    }
  }
};

at::Tensor taps_first(const at::Tensor& weight) { return weight.to(at::kFloat).transpose(1, 2).contiguous(); }

}  // namespace

Packed pack_rows(const at::Tensor& weight, const ConvLayer& layer) {
  const Stretch stretch(layer);
  const int64_t inputs = layer.c_in / layer.groups, outputs = layer.c_out / layer.groups;
  const int64_t size = rows::packed_size(outputs, stretch.depth, stretch.taps);
  const at::Tensor w = taps_first(weight), packed = at::detail::empty_cpu({layer.groups * size}, at::kFloat, false);
  for (int64_t g = 0; g < layer.groups; ++g) {
    rows::pack(w.const_data_ptr<float>() + g * outputs * inputs * layer.kernel, inputs * layer.kernel, 1, inputs, outputs,
               stretch.depth, stretch.taps, packed.mutable_data_ptr<float>() + g * size);
  }
  return {{packed}, nullptr};
}

Packed pack_few(const at::Tensor& weight, const ConvLayer&) { return {{taps_first(weight)}, nullptr}; }

Packed pack_depthwise(const at::Tensor& weight, const ConvLayer&) {
  return {{weight.to(at::kFloat).squeeze(1).t().contiguous()}, nullptr};
}

std::unique_ptr<ConvStep> step_rows(const ConvLayer& layer, const Packed& weight, const float* bias) {
  return std::make_unique<RowsStep>(layer, weight, bias);
}

std::unique_ptr<ConvStep> step_few(const ConvLayer& layer, const Packed& weight, const float* bias) {
  return std::make_unique<FewStep>(layer, weight, bias);
}

std::unique_ptr<ConvStep> step_depthwise(const ConvLayer& layer, const Packed& weight, const float* bias) {
  return std::make_unique<DepthwiseStep>(layer, weight, bias);
}

ConvMethod only_packed_method(const ConvLayer& layer) {
  const auto method = conv_method(layer, at::kFloat);
  return method == ConvMethod::kMinimal ? ConvMethod::kRows : method;
}

int64_t only_packed_size(const ConvLayer& layer) {
  const int64_t inputs = layer.c_in / layer.groups, outputs = layer.c_out / layer.groups;
  if (only_packed_method(layer) != ConvMethod::kRows) return layer.c_out * inputs * layer.kernel;
  const Stretch stretch(layer);
  return layer.groups * rows::packed_size(outputs, stretch.depth, stretch.taps);
}

at::Tensor unpack_conv(ConvMethod method, const at::Tensor& packed, const ConvLayer& layer) {
  const int64_t inputs = layer.c_in / layer.groups, outputs = layer.c_out / layer.groups;
  constexpr auto dense = at::MemoryFormat::Contiguous;  // clone, because contiguous() may return `packed` itself
  if (method == ConvMethod::kDepthwise) return packed.view({layer.kernel, layer.c_out}).t().unsqueeze(1).clone(dense);
  if (method == ConvMethod::kFew) return packed.view({layer.c_out, layer.kernel, inputs}).transpose(1, 2).clone(dense);
  const Stretch stretch(layer);
  const int64_t size = rows::packed_size(outputs, stretch.depth, stretch.taps);
  const at::Tensor w = at::detail::empty_cpu({layer.c_out, layer.kernel, inputs}, at::kFloat, false);
  for (int64_t g = 0; g < layer.groups; ++g) {
    rows::unpack(packed.const_data_ptr<float>() + g * size, outputs, stretch.depth, stretch.taps,
                 w.mutable_data_ptr<float>() + g * outputs * inputs * layer.kernel, inputs * layer.kernel, 1, inputs);
  }
  return w.transpose(1, 2).contiguous();
}

ConvMethod conv_method(const ConvLayer& layer, at::ScalarType dtype) {
  if (dtype != at::kFloat) return ConvMethod::kOneDnn;
  if (layer.groups == layer.c_in && layer.groups == layer.c_out && layer.groups > 1) return ConvMethod::kDepthwise;
  if (layer.c_out / layer.groups <= rows::kFewColumns && layer.c_in / layer.groups * layer.kernel >= 16) return ConvMethod::kFew;
  // The differences cost a pass over the inputs, which pays where enough products are saved; measured per instruction set
  const int64_t shortest_sum = cpu_isa() == Isa::kAvx512 ? 96 : 1024;
  const bool minimal = layer.stride == 1 && layer.groups == 1 && layer.rows_per_position == 1 && layer.kernel >= 3 &&
                       layer.c_in >= 32 && layer.c_in * layer.kernel >= shortest_sum && layer.c_out >= 16 &&
                       layer.kernel * ((layer.c_out + 15) / 16) >= 6;
  return minimal ? ConvMethod::kMinimal : ConvMethod::kRows;
}

}  // namespace blackwell_compat
