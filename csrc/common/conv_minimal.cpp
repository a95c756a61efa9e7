// A float32 block by minimal filtering, F(2, 3) of Winograd 1980, "Arithmetic Complexity of Computations": two outputs of
// three taps from four products instead of six. For an output pair (p, p + d) of a kernel with dilation d, and each group
// of three taps, with xi = x(p + i d):
//   products   M0 = (x0 - x2) w0,  M1 = (x1 + x2) (w0 + w1 + w2) / 2,  M2 = (x2 - x1) (w0 - w1 + w2) / 2,  M3 = (x1 - x3) w2
//   outputs    y(p) = M0 + M1 + M2,  y(p + d) = M1 - M2 - M3
// The products of all groups and input channels are sums over differences of the signal, so each Mi is a convolution with a
// tap per group, of every other row. A tap left over (K % 3 == 1) is added directly. The sums are shorter than those of the
// plain convolution, which makes up for the differences: the error is that of the plain sum.
#include <algorithm>
#include <cstring>

#include "common/clones.h"
#include "common/conv_step.h"
#include "common/row_gemm.h"

namespace blackwell_compat {
namespace {

constexpr int64_t kBlockBytes = 640 << 10;  // rows, differences, products and output of a block

struct Plan {
  int64_t groups;        // of three taps; of the last the third may be missing
  int64_t third_groups;  // that have their third tap
  bool tail;             // one tap is left over

  explicit Plan(const ConvLayer& layer)
      : groups(layer.kernel % 3 == 2 ? layer.kernel / 3 + 1 : layer.kernel / 3),
        third_groups(layer.kernel / 3),
        tail(layer.kernel % 3 == 1) {}
};

// Row j of each: x(j) - x(j + 2), x(j + 1) + x(j + 2), x(j + 2) - x(j + 1); rows of x are `step` floats apart.
BC_CLONES void differences(const float* x, int64_t step, int64_t rows, int64_t channels, float* __restrict minus,
                           float* __restrict plus, float* __restrict back) {
  for (int64_t j = 0; j < rows; ++j) {
    const float *x0 = x + j * step, *x1 = x0 + step, *x2 = x1 + step;
    for (int64_t c = 0; c < channels; ++c) {
      minus[c] = x0[c] - x2[c];
      plus[c] = x1[c] + x2[c];
      back[c] = x2[c] - x1[c];
    }
    minus += channels, plus += channels, back += channels;
  }
}

struct Products {
  const float *m0, *m1, *m2, *m3;
};

// even and odd: the rows of the pair, `step` floats from pair to pair, which hold what the products are added to.
BC_CLONES void combine(const Products& m, int64_t pairs, int64_t channels, float slope, float* even, float* odd, int64_t step) {
  const Leaky activation(slope);
  for (int64_t i = 0; i < pairs; ++i) {
    const float* __restrict m0 = m.m0 + i * channels, * __restrict m1 = m.m1 + i * channels;
    const float* __restrict m2 = m.m2 + i * channels, * __restrict m3 = m.m3 + i * channels;
    float* __restrict e = even + i * step, * __restrict o = odd + i * step;
    for (int64_t c = 0; c < channels; ++c) {
      const float ye = e[c] + (m0[c] + m1[c] + m2[c]), yo = o[c] + (m1[c] - m2[c] - m3[c]);
      e[c] = activation(ye);
      o[c] = activation(yo);
    }
  }
}

class MinimalStep : public ConvStep {
 public:
  MinimalStep(const ConvLayer& layer, const Packed& weight, const float* bias)
      : layer_(layer), plan_(layer), weight_(weight), bias_(bias), slope_(layer.act.is_leaky() ? layer.act.slope : 1) {}

  int64_t longest_block() const override {
    const int64_t row_bytes = 4 * (4 * layer_.c_in + 3 * layer_.c_out);
    return block_length(std::clamp<int64_t>(kBlockBytes / row_bytes, 96, 1024));
  }

  // Whole pairs for each of the residues of the dilation
  int64_t block_length(int64_t positions) const override {
    const int64_t step = 2 * layer_.dilation;
    return (positions + step - 1) / step * step;
  }

  void compute(int64_t positions, const void* source, void* target) const override {
    const auto* x = static_cast<const float*>(source);
    auto* y = static_cast<float*>(target);
    const int64_t d = layer_.dilation, c_in = layer_.c_in, c_out = layer_.c_out;
    const int64_t pairs = positions / (2 * d), length = 2 * pairs + 3 * plan_.groups - 4;
    float* minus = scratch(kProducts, (3 * (length + 1) * c_in + 4 * pairs * c_out) * sizeof(float));
    float *plus = minus + (length + 1) * c_in, *back = plus + (length + 1) * c_in;
    float *m0 = back + (length + 1) * c_in, *m1 = m0 + pairs * c_out, *m2 = m1 + pairs * c_out, *m3 = m2 + pairs * c_out;
    if (plan_.tail) {
      rows::multiply({positions, c_out, c_in, 1, c_in, 0, c_out, 1}, x + (layer_.kernel - 1) * d * c_in, part(4), bias_, y, 0,
                     rows::panels(c_out));
    } else if (bias_ != nullptr) {
      for (int64_t p = 0; p < positions; ++p) std::memcpy(y + p * c_out, bias_, c_out * sizeof(float));
    } else {
      std::memset(y, 0, positions * c_out * sizeof(float));
    }
    // M3 of the last pair reads a row more where the last group is whole
    const int64_t count = length + (plan_.third_groups == plan_.groups ? 1 : 0);
    for (int64_t r = 0; r < d; ++r) {
      differences(x + r * c_in, d * c_in, count, c_in, minus, plus, back);
      convolve(pairs, plan_.groups, minus, 0, m0);
      convolve(pairs, plan_.groups, plus, 1, m1);
      convolve(pairs, plan_.groups, back, 2, m2);
      convolve(pairs, plan_.third_groups, minus + c_in, 3, m3);
      combine({m0, m1, m2, m3}, pairs, c_out, slope_, y + r * c_out, y + (r + d) * c_out, 2 * d * c_out);
    }
  }

 private:
  const float* part(int index) const { return weight_.parts[index].const_data_ptr<float>(); }

  void convolve(int64_t pairs, int64_t taps, const float* from, int index, float* to) const {
    rows::multiply({pairs, layer_.c_out, layer_.c_in, taps, 2 * layer_.c_in, 3 * layer_.c_in, layer_.c_out, 1}, from, part(index),
                   nullptr, to, 0, rows::panels(layer_.c_out));
  }

  const ConvLayer& layer_;
  const Plan plan_;
  const Packed& weight_;
  const float* const bias_;
  const float slope_;
};

}  // namespace

Packed pack_minimal(const at::Tensor& weight, const ConvLayer& layer) {
  const Plan plan(layer);
  const int64_t in_groups = plan.tail ? layer.kernel - 1 : layer.kernel;
  const at::Tensor taps = at::constant_pad_nd(weight.narrow(2, 0, in_groups).to(at::kDouble), {0, 3 * plan.groups - in_groups})
                              .view({layer.c_out, layer.c_in, plan.groups, 3});
  const at::Tensor w0 = taps.select(3, 0), w1 = taps.select(3, 1), w2 = taps.select(3, 2);
  std::vector<at::Tensor> weights = {w0, (w0 + w1 + w2) / 2, (w0 - w1 + w2) / 2, w2.narrow(2, 0, plan.third_groups)};
  if (plan.tail) weights.push_back(weight.narrow(2, layer.kernel - 1, 1));
  Packed packed;
  for (const at::Tensor& one : weights) {
    const at::Tensor w = one.to(at::kFloat).contiguous();
    const int64_t count = w.size(2);
    const at::Tensor to = at::detail::empty_cpu({rows::packed_size(layer.c_out, layer.c_in, count)}, at::kFloat, false);
    rows::pack(w.const_data_ptr<float>(), layer.c_in * count, count, 1, layer.c_out, layer.c_in, count,
               to.mutable_data_ptr<float>());
    packed.parts.push_back(to);
  }
  return packed;
}

std::unique_ptr<ConvStep> step_minimal(const ConvLayer& layer, const Packed& weight, const float* bias) {
  return std::make_unique<MinimalStep>(layer, weight, bias);
}

}  // namespace blackwell_compat
