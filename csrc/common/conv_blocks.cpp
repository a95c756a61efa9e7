// Convolution in blocks: how positions are shared out, how a block is gathered and scattered.
#include "common/conv_blocks.h"

#include <ATen/Parallel.h>
#include <c10/util/irange.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/transpose.h"

namespace blackwell_compat {
namespace {

using dnnl::memory;

constexpr int64_t kBlockBytes = 256 << 10;  // input and output of a block: a quarter of a usual second-level cache
constexpr int64_t kMaxPositions = 1024;

// Block lengths come from a grid of about 20 values, so that few primitives serve every signal length.
int64_t grid_length(int64_t positions) {
  const int64_t step = positions <= 128 ? 16 : positions <= 256 ? 32 : positions <= 512 ? 64 : 128;
  return (positions + step - 1) / step * step;
}

int64_t longest_block(const ConvLayer& layer) {
  const int64_t bytes = 4 * (layer.c_in * layer.stride + layer.c_out);
  const int64_t wanted = std::clamp<int64_t>(kBlockBytes / bytes, 16, kMaxPositions);
  const int64_t step = wanted <= 128 ? 16 : wanted <= 256 ? 32 : wanted <= 512 ? 64 : 128;
  return wanted / step * step;
}

int64_t block_input(const ConvLayer& layer, int64_t positions) {
  return (positions - 1) * layer.stride + (layer.kernel - 1) * layer.dilation + 1;
}

dnnl::convolution_forward::primitive_desc describe(const ConvLayer& layer, at::ScalarType dtype, int64_t positions,
                                                   const memory::desc& weights) {
  const auto type = onednn::data_type(dtype);
  dnnl::post_ops ops;
  onednn::append_activation(ops, layer.act);
  dnnl::primitive_attr attr;
  attr.set_post_ops(ops);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const memory::desc src({1, layer.c_in, block_input(layer, positions)}, type, memory::format_tag::nwc);
  const memory::desc dst({1, layer.c_out, positions}, type, memory::format_tag::nwc);
  const memory::desc bias = layer.bias ? memory::desc({layer.c_out}, type, memory::format_tag::x) : memory::desc();
  const memory::dims strides{layer.stride}, dilates{layer.dilation - 1}, no_padding{0};
  const onednn::OneThread one_thread;
  return dnnl::convolution_forward::primitive_desc(onednn::engine(), dnnl::prop_kind::forward_inference,
                                                   dnnl::algorithm::convolution_direct, src, weights, bias, dst, strides, dilates,
                                                   no_padding, no_padding, attr);
}

bool is_reference(const dnnl::convolution_forward::primitive_desc& pd) {
  return std::string(pd.impl_info_str()).find("ref") != std::string::npos;
}

onednn::Primitive make_primitive(const ConvLayer& layer, at::ScalarType dtype, int64_t positions, const memory::desc& weights) {
  const auto pd = describe(layer, dtype, positions, weights);
  const memory::desc bias = layer.bias ? pd.bias_desc() : memory::desc();
  const memory::desc packed = is_reference(pd) ? memory::desc() : pd.weights_desc();
  return {dnnl::convolution_forward(pd), pd.src_desc(), packed, bias, pd.dst_desc(), pd.scratchpad_desc()};
}

memory::dims weight_dims(const ConvLayer& layer) {
  if (layer.groups == 1) return {layer.c_out, layer.c_in, layer.kernel};
  return {layer.groups, layer.c_out / layer.groups, layer.c_in / layer.groups, layer.kernel};
}

std::shared_ptr<const onednn::Primitive> primitive_for(const ConvLayer& layer, at::ScalarType dtype, int64_t positions,
                                                       const memory::desc& weights) {
  const onednn::Key key = {'c',
                           layer.c_in,
                           layer.c_out,
                           layer.kernel,
                           layer.stride,
                           layer.dilation,
                           layer.groups,
                           layer.bias,
                           static_cast<int64_t>(layer.act.kind),
                           static_cast<int64_t>(layer.act.slope * 1e6),
                           static_cast<int64_t>(dtype),
                           positions};
  return onednn::primitives().get(key, [&] { return make_primitive(layer, dtype, positions, weights); });
}

// oneDNN prefers a layout of the weights for each block length, and where it is given another one it may compute a hundred
// times slower (its "ref" implementation). This layout is fast for the longest block and for most others; empty where oneDNN
// has nothing but "ref".
memory::desc common_layout(const ConvLayer& layer, at::ScalarType dtype, const memory::desc& any) {
  std::vector<int64_t> lengths;
  for (int64_t length = 16; length <= longest_block(layer); length = grid_length(length + 1)) lengths.push_back(length);
  const auto refused = [&](const memory::desc& layout) {
    return std::count_if(lengths.begin(), lengths.end(),
                         [&](int64_t length) { return is_reference(describe(layer, dtype, length, layout)); });
  };
  memory::desc best;
  int64_t least = lengths.size();
  std::vector<memory::desc> tried;
  for (auto length = lengths.rbegin(); length != lengths.rend() && least > 0; ++length) {
    const auto pd = describe(layer, dtype, *length, any);
    if (is_reference(pd)) return {};
    const memory::desc layout = pd.weights_desc();
    if (std::find(tried.begin(), tried.end(), layout) != tried.end()) continue;
    tried.push_back(layout);
    if (is_reference(describe(layer, dtype, lengths.back(), layout))) continue;
    const int64_t count = refused(layout);
    if (count < least) best = layout, least = count;
  }
  return best;
}

// The primitive for the shortest block of at least `positions` that the layout of `weights` is fast for, and its length.
std::pair<std::shared_ptr<const onednn::Primitive>, int64_t> fast_primitive(const ConvLayer& layer, at::ScalarType dtype,
                                                                            int64_t positions, const memory::desc& weights) {
  int64_t length = grid_length(positions);
  auto primitive = primitive_for(layer, dtype, length, weights);
  while (primitive->weights.is_zero() && length < longest_block(layer)) {
    length = grid_length(length + 1);
    primitive = primitive_for(layer, dtype, length, weights);
  }
  return {primitive, length};
}

#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
void leaky(float* values, int64_t count, float slope) {
  for (int64_t i = 0; i < count; ++i) values[i] = values[i] > 0 ? values[i] : values[i] * slope;
}

template <typename T>
void leaky(T* values, int64_t count, float slope) {
  for (const auto i : c10::irange(count)) {
    const float v = static_cast<float>(values[i]);
    values[i] = static_cast<T>(v > 0 ? v : v * slope);
  }
}

template <typename To, typename From>
void convert(const From* from, int64_t count, To* to) {
  if constexpr (std::is_same_v<To, From>) {
    std::memcpy(to, from, count * sizeof(To));
  } else {
    for (const auto i : c10::irange(count)) to[i] = static_cast<To>(static_cast<float>(from[i]));
  }
}

template <typename T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>;

// Rows or planes of one sample, `from` and `to` meaning positions.
template <typename Work, typename Stored>
class Gather {
 public:
  Gather(const ConvLayer& layer, const at::Tensor& input)
      : layer_(layer),
        rows_(is_rows(input) || layer.c_in == 1),
        length_(input.size(2)),
        channels_(layer.c_in),
        plane_stride_(input.stride(1)),
        sample_stride_(input.stride(0)),
        base_(static_cast<const Stored*>(input.data_ptr())) {}

  // Input positions [begin, begin + count) of sample n as rows; those outside the signal are zero. Uses scratch 0 and 1.
  Work* operator()(int64_t n, int64_t begin, int64_t count) const {
    const Stored* sample = base_ + n * sample_stride_;
    const int64_t first = std::clamp<int64_t>(begin, 0, length_), last = std::clamp<int64_t>(begin + count, first, length_);
    if constexpr (std::is_same_v<Work, Stored>) {
      if (rows_ && layer_.pre.none() && last - first == count) return const_cast<Work*>(sample + first * channels_);
    }
    auto* block = reinterpret_cast<Work*>(onednn::scratch(0, count * channels_ * sizeof(Work)));
    Work* kept = block + (first - begin) * channels_;
    const int64_t values = (last - first) * channels_;
    std::memset(static_cast<void*>(block), 0, (first - begin) * channels_ * sizeof(Work));
    std::memset(static_cast<void*>(kept + values), 0, (begin + count - last) * channels_ * sizeof(Work));
    if (rows_) {
      convert(sample + first * channels_, values, kept);
    } else if constexpr (std::is_same_v<Work, Stored>) {
      transpose(reinterpret_cast<const Bits<Work>*>(sample + first), plane_stride_, channels_, last - first,
                reinterpret_cast<Bits<Work>*>(kept), channels_);
    } else {
      auto* planes = reinterpret_cast<Work*>(onednn::scratch(1, values * sizeof(Work)));
      for (const auto c : c10::irange(channels_)) {
        convert(sample + c * plane_stride_ + first, last - first, planes + c * (last - first));
      }
      transpose(reinterpret_cast<const Bits<Work>*>(planes), last - first, channels_, last - first,
                reinterpret_cast<Bits<Work>*>(kept), channels_);
    }
    if (layer_.pre.is_leaky()) leaky(kept, values, layer_.pre.slope);
    return block;
  }

 private:
  const ConvLayer& layer_;
  const bool rows_;
  const int64_t length_, channels_, plane_stride_, sample_stride_;
  const Stored* base_;
};

template <typename Work, typename Stored>
class Scatter {
 public:
  Scatter(const ConvLayer& layer, const ConvSignals& s)
      : rows_(is_rows(s.output) || s.output.size(1) == 1),
        direct_(rows_ && std::is_same_v<Work, Stored>),
        channels_(s.output.size(1)),
        plane_stride_(s.output.stride(1)),
        sample_stride_(s.output.stride(0)),
        base_(static_cast<Stored*>(s.output.data_ptr())),
        residual_(s.residual),
        c_out_(layer.c_out) {}

  // Where the result of `positions` positions, whose rows start at `row` of sample n, should be computed.
  Work* target(int64_t n, int64_t row, int64_t positions, int64_t first, int64_t last) const {
    const int64_t rows = positions * c_out_ / channels_;
    if (direct_ && row >= first && row + rows <= last) {
      return reinterpret_cast<Work*>(base_ + n * sample_stride_ + row * channels_);
    }
    return reinterpret_cast<Work*>(onednn::scratch(2, positions * c_out_ * sizeof(Work)));
  }

  // Brings rows [first, last) of sample n to the output; block[0] is row `row`.
  void operator()(int64_t n, int64_t row, int64_t first, int64_t last, Work* block) const {
    Stored* sample = base_ + n * sample_stride_;
    Work* kept = block + (first - row) * channels_;
    const int64_t count = last - first;
    if (rows_) {
      if (static_cast<void*>(kept) != static_cast<void*>(sample + first * channels_)) {
        convert(kept, count * channels_, sample + first * channels_);
      }
    } else if constexpr (std::is_same_v<Work, Stored>) {
      transpose(reinterpret_cast<const Bits<Work>*>(kept), channels_, count, channels_,
                reinterpret_cast<Bits<Work>*>(sample + first), plane_stride_);
    } else {
      auto* planes = reinterpret_cast<Work*>(onednn::scratch(3, count * channels_ * sizeof(Work)));
      transpose(reinterpret_cast<const Bits<Work>*>(kept), channels_, count, channels_, reinterpret_cast<Bits<Work>*>(planes),
                count);
      for (const auto c : c10::irange(channels_)) convert(planes + c * count, count, sample + c * plane_stride_ + first);
    }
    if (residual_.defined()) add_residual(sample, n, first, count);
  }

 private:
  void add_residual(Stored* sample, int64_t n, int64_t first, int64_t count) const {
    const auto* residual = static_cast<const Stored*>(residual_.data_ptr()) + n * residual_.stride(0);
    const int64_t lines = rows_ ? 1 : channels_, length = rows_ ? count * channels_ : count;
    for (const auto line : c10::irange(lines)) {
      Stored* to = sample + (rows_ ? first * channels_ : line * plane_stride_ + first);
      const Stored* from = residual + (rows_ ? first * channels_ : line * residual_.stride(1) + first);
      for (const auto i : c10::irange(length))
        to[i] = static_cast<Stored>(static_cast<float>(to[i]) + static_cast<float>(from[i]));
    }
  }

  const bool rows_, direct_;
  const int64_t channels_, plane_stride_, sample_stride_;
  Stored* base_;
  const at::Tensor residual_;
  const int64_t c_out_;
};

template <typename Work, typename Stored>
void run(const ConvLayer& layer, at::ScalarType dtype, const Packed& weight, const at::Tensor& bias, const ConvSignals& s) {
  const int64_t batch = s.input.size(0), l_out = s.output.size(2), u = layer.rows_per_position;
  const int64_t threads = at::get_num_threads(), block = longest_block(layer);
  const int64_t spans = batch % threads == 0 ? 1 : std::min(threads, (s.positions + 15) / 16);
  const int64_t span = (s.positions + spans - 1) / spans;
  const Gather<Work, Stored> gather(layer, s.input);
  const Scatter<Work, Stored> scatter(layer, s);
  const auto& engine = onednn::engine();

  at::parallel_for(0, batch * spans, 1, [&](int64_t task, int64_t tasks_end) {
    for (; task < tasks_end; ++task) {
      const int64_t n = task / spans, span_begin = task % spans * span;
      const int64_t span_end = std::min(span_begin + span, s.positions);
      // The kept rows of this span; neighbours write theirs
      const int64_t row_begin = std::clamp<int64_t>(span_begin * u - s.skip_rows, 0, l_out);
      const int64_t row_end = std::clamp<int64_t>(span_end * u - s.skip_rows, 0, l_out);
      for (int64_t done = span_begin; done < span_end;) {
        const auto [primitive, count] = fast_primitive(layer, dtype, std::min(block, span_end - done), weight.desc);
        // The last block is moved back into the span where it would reach over its end
        const int64_t begin = std::max(span_begin, std::min(done, span_end - count));
        const int64_t row = begin * u - s.skip_rows;
        Work* source = gather(n, begin * layer.stride - s.pad_left, block_input(layer, count));
        Work* target = scatter.target(n, row, count, row_begin, row_end);
        std::unordered_map<int, memory> args = {
            {DNNL_ARG_SRC, {primitive->src, engine, source}},
            {DNNL_ARG_WEIGHTS, {weight.desc, engine, weight.data.data_ptr()}},
            {DNNL_ARG_DST, {primitive->dst, engine, target}},
            {DNNL_ARG_SCRATCHPAD, {primitive->scratchpad, engine, onednn::scratch(4, primitive->scratchpad.get_size())}}};
        if (layer.bias) args.insert({DNNL_ARG_BIAS, {primitive->bias, engine, bias.data_ptr()}});
        primitive->primitive.execute(onednn::stream(), args);
        const int64_t first = std::max(row, row_begin), last = std::min(row + count * u, row_end);
        if (first < last) scatter(n, row, first, last, target);
        done = begin + count;
      }
    }
  });
}

}  // namespace

bool is_rows(const at::Tensor& signal) {
  return signal.dim() == 3 && signal.size(1) > 1 && signal.size(2) > 1 && signal.stride(1) == 1 &&
         signal.stride(2) == signal.size(1);
}

Packed pack_conv(const at::Tensor& weight, const ConvLayer& layer, at::ScalarType dtype) {
  const at::Tensor w = weight.to(dtype).contiguous();
  const memory::dims dims = weight_dims(layer);
  const auto type = onednn::data_type(dtype);
  const auto plain_tag = layer.groups == 1 ? memory::format_tag::oiw : memory::format_tag::goiw;
  const memory::desc layout = common_layout(layer, dtype, memory::desc(dims, type, memory::format_tag::any));
  if (layout.is_zero()) return {};
  return {onednn::reorder(w, memory::desc(dims, type, plain_tag), layout), layout};
}

void conv_blocks(const ConvLayer& layer, at::ScalarType dtype, const Packed& weight, const at::Tensor& bias,
                 const ConvSignals& signals) {
  const auto stored = signals.input.scalar_type();
  if (dtype == at::kFloat && stored == at::kFloat) return run<float, float>(layer, dtype, weight, bias, signals);
  if (dtype == at::kFloat && stored == at::kBFloat16) return run<float, at::BFloat16>(layer, dtype, weight, bias, signals);
  if (dtype == at::kFloat && stored == at::kHalf) return run<float, at::Half>(layer, dtype, weight, bias, signals);
  if (dtype == at::kBFloat16) return run<at::BFloat16, at::BFloat16>(layer, dtype, weight, bias, signals);
  return run<at::Half, at::Half>(layer, dtype, weight, bias, signals);
}

}  // namespace blackwell_compat
