// A block in bfloat16 or float16 by oneDNN's convolution on rows.
#include <algorithm>

#include "common/conv_step.h"
#include "common/onednn.h"

namespace blackwell_compat {
namespace {

using dnnl::memory;

constexpr int64_t kBlockBytes = 256 << 10;  // input and output of a block: a quarter of a usual second-level cache
constexpr int64_t kMaxPositions = 1024, kLayoutPositions = 128;

// Block lengths come from a grid of about 20 values, so that few primitives serve every signal length.
int64_t step_of(int64_t positions) { return positions <= 128 ? 16 : positions <= 256 ? 32 : positions <= 512 ? 64 : 128; }

onednn::Primitive make(const ConvLayer& layer, at::ScalarType dtype, int64_t positions, const memory::desc& weights) {
  const auto type = onednn::data_type(dtype);
  dnnl::post_ops ops;
  onednn::append_activation(ops, layer.act);
  dnnl::primitive_attr attr;
  attr.set_post_ops(ops);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const memory::desc src({1, layer.c_in, layer.rows_reached(positions)}, type, memory::format_tag::nwc);
  const memory::desc dst({1, layer.c_out, positions}, type, memory::format_tag::nwc);
  const memory::desc bias = layer.bias ? memory::desc({layer.c_out}, type, memory::format_tag::x) : memory::desc();
  const memory::dims strides{layer.stride}, dilates{layer.dilation - 1}, no_padding{0};  // oneDNN counts dilation from 0
  const auto inference = dnnl::prop_kind::forward_inference;
  const auto algorithm = dnnl::algorithm::convolution_direct;
  const onednn::OneThread one_thread;
  using Description = dnnl::convolution_forward::primitive_desc;
  const Description pd = layer.bias ? Description(onednn::engine(), inference, algorithm, src, weights, bias, dst, strides,
                                                  dilates, no_padding, no_padding, attr)
                                    : Description(onednn::engine(), inference, algorithm, src, weights, dst, strides, dilates,
                                                  no_padding, no_padding, attr);
  return {dnnl::convolution_forward(pd),
          pd.src_desc(),
          pd.weights_desc(),
          bias,
          pd.dst_desc(),
          pd.scratchpad_desc(),
          std::string(pd.impl_info_str()).find("ref") != std::string::npos};
}

class OneDnnStep : public ConvStep {
 public:
  OneDnnStep(const ConvLayer& layer, at::ScalarType dtype, const Packed& weight, const void* bias)
      : layer_(layer), dtype_(dtype), weight_(weight), bias_(const_cast<void*>(bias)) {}

  int64_t longest_block() const override {
    const int64_t row_bytes = 2 * (layer_.c_in * layer_.stride + layer_.c_out);
    const int64_t wanted = std::clamp<int64_t>(kBlockBytes / row_bytes, 128, kMaxPositions);
    return wanted / step_of(wanted) * step_of(wanted);
  }

  // For the layout that was packed some lengths have only oneDNN's reference kernel, a thousand times slower: 16 to 48 and
  // 320 positions of many 1x1 layers. kLayoutPositions has a fast one.
  int64_t block_length(int64_t positions) const override {
    const int64_t step = step_of(positions);
    int64_t length = (positions + step - 1) / step * step;
    while (length != kLayoutPositions && made(length)->reference) length += length < kLayoutPositions ? 16 : -step_of(length);
    return length;
  }

  void compute(int64_t positions, const void* source, void* target) const override {
    onednn::run(*made(positions), const_cast<void*>(source), weight_.parts[0].data_ptr(), bias_, target);
  }

 private:
  std::shared_ptr<const onednn::Primitive> made(int64_t positions) const {
    const onednn::Key key = {'c',
                             layer_.c_in,
                             layer_.c_out,
                             layer_.kernel,
                             layer_.stride,
                             layer_.dilation,
                             layer_.groups,
                             layer_.bias,
                             static_cast<int64_t>(layer_.act.kind),
                             onednn::bits(layer_.act.slope),
                             static_cast<int64_t>(dtype_),
                             positions};
    const auto& layout = *std::static_pointer_cast<const memory::desc>(weight_.layout);
    return onednn::primitives().get(key, [&] { return make(layer_, dtype_, positions, layout); });
  }

  const ConvLayer& layer_;
  const at::ScalarType dtype_;
  const Packed& weight_;
  void* const bias_;
};

}  // namespace

Packed pack_onednn(const at::Tensor& weight, const ConvLayer& layer, at::ScalarType dtype) {
  const at::Tensor w = weight.to(dtype).contiguous();
  const bool grouped = layer.groups > 1;
  const memory::dims dims = grouped
                                ? memory::dims{layer.groups, layer.c_out / layer.groups, layer.c_in / layer.groups, layer.kernel}
                                : memory::dims{layer.c_out, layer.c_in, layer.kernel};
  const auto type = onednn::data_type(dtype);
  const auto made = make(layer, dtype, kLayoutPositions, memory::desc(dims, type, memory::format_tag::any));
  if (made.reference) return {};
  const memory::desc plain(dims, type, grouped ? memory::format_tag::goiw : memory::format_tag::oiw);
  return {{onednn::reorder(w, plain, made.weights)}, std::make_shared<const memory::desc>(made.weights)};
}

std::unique_ptr<ConvStep> step_onednn(const ConvLayer& layer, at::ScalarType dtype, const Packed& weight, const void* bias) {
  return std::make_unique<OneDnnStep>(layer, dtype, weight, bias);
}

}  // namespace blackwell_compat
