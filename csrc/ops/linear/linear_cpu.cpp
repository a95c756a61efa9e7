// compat_linear on the CPU: oneDNN matmul, weights packed once (common/pack_cache.h), one primitive a shape.
#include <ATen/Parallel.h>

#include "common/onednn.h"
#include "common/pack_cache.h"
#include "ops/linear/linear.h"

namespace blackwell_compat {
namespace {

using dnnl::memory;

struct Shape {
  int64_t m, n, k;
  at::ScalarType dtype;  // of the arithmetic
  bool bias;
  Activation act;
  int threads;
};

onednn::Primitive make_primitive(const Shape& s, const memory::desc& weights) {
  const auto type = onednn::data_type(s.dtype);
  dnnl::post_ops ops;
  onednn::append_activation(ops, s.act);
  dnnl::primitive_attr attr;
  attr.set_post_ops(ops);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const memory::desc src({s.m, s.k}, type, memory::format_tag::ab), dst({s.m, s.n}, type, memory::format_tag::ab);
  const memory::desc bias = s.bias ? memory::desc({1, s.n}, type, memory::format_tag::ab) : memory::desc();
  const auto pd = s.bias ? dnnl::matmul::primitive_desc(onednn::engine(), src, weights, bias, dst, attr)
                         : dnnl::matmul::primitive_desc(onednn::engine(), src, weights, dst, attr);
  return {dnnl::matmul(pd), pd.src_desc(), pd.weights_desc(), bias, pd.dst_desc(), pd.scratchpad_desc()};
}

// The packed layout is asked for at 64 rows and then holds for every number of rows.
constexpr int64_t kRowsOfLayout = 64;

Packed pack(const Tensor& weight, Shape shape) {
  const Tensor w = weight.to(shape.dtype);
  shape.m = kRowsOfLayout;
  const memory::desc any({shape.k, shape.n}, onednn::data_type(shape.dtype), memory::format_tag::any);
  const memory::desc plain({shape.k, shape.n}, onednn::data_type(shape.dtype), memory::dims{w.stride(1), w.stride(0)});
  const memory::desc wanted = make_primitive(shape, any).weights;
  return {onednn::reorder(w, plain, wanted), wanted};
}

// Two packings of one (K, N, dtype) have the same layout, so these numbers stand for it in the key.
onednn::Key key_of(const Shape& s) {
  return {'l',
          s.m,
          s.n,
          s.k,
          static_cast<int64_t>(s.dtype),
          s.bias,
          static_cast<int64_t>(s.act.kind),
          static_cast<int64_t>(s.act.slope * 1e6),
          s.threads};
}

}  // namespace

Tensor linear_cpu(const Tensor& input, const Tensor& weight, const OptTensor& bias, Activation pre, Activation act) {
  const auto dtype = onednn::compute_dtype(input.scalar_type());
  const bool plain_bias = !bias || (bias->dim() == 1 && bias->size(0) == weight.size(0));
  if (!dtype || weight.dim() != 2 || input.numel() == 0 || weight.numel() == 0 || !plain_bias) {
    return linear_aten(input, weight, bias, pre, act);
  }
  Shape shape{0, weight.size(0), weight.size(1), *dtype, bias.has_value(), act, at::get_num_threads()};
  const auto packed = packed_weight(weight, {'l', static_cast<int64_t>(*dtype), 0, 0}, [&] { return pack(weight, shape); });
  if (!packed) return linear_aten(input, weight, bias, pre, act);

  shape.m = input.numel() / shape.k;
  const auto primitive = onednn::primitives().get(key_of(shape), [&] { return make_primitive(shape, packed->desc); });
  const Tensor x = apply_activation(input, pre).to(*dtype).contiguous();
  const Tensor b = bias ? bias->to(*dtype).contiguous() : Tensor();
  auto sizes = input.sizes().vec();
  sizes.back() = shape.n;
  Tensor y = at::detail::empty_cpu(sizes, *dtype, false);
  const auto& engine = onednn::engine();
  std::unordered_map<int, memory> args = {
      {DNNL_ARG_SRC, {primitive->src, engine, x.data_ptr()}},
      {DNNL_ARG_WEIGHTS, {primitive->weights, engine, packed->data.data_ptr()}},
      {DNNL_ARG_DST, {primitive->dst, engine, y.data_ptr()}},
      {DNNL_ARG_SCRATCHPAD, {primitive->scratchpad, engine, onednn::scratch(0, primitive->scratchpad.get_size())}}};
  if (bias) args.insert({DNNL_ARG_BIAS, {primitive->bias, engine, b.data_ptr()}});
  primitive->primitive.execute(onednn::stream(), args);
  return y.to(input.scalar_type());
}

}  // namespace blackwell_compat
