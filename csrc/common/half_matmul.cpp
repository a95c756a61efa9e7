// oneDNN's matmul, one primitive a number of rows.
#include "common/half_matmul.h"

#include <ATen/Parallel.h>

#include "common/onednn.h"

namespace blackwell_compat {
namespace {

using dnnl::memory;

struct Shape {
  int64_t m, n, k;
  at::ScalarType dtype;
  bool bias;
  Activation act;
};

onednn::Primitive make(const Shape& s, const memory::desc& weights) {
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

constexpr int64_t kRowsOfLayout = 64;  // the layout asked for at this number of rows then holds for every number

}  // namespace

Packed pack_half_matmul(const at::Tensor& weight, at::ScalarType dtype) {
  const at::Tensor w = weight.to(dtype);
  const int64_t n = w.size(0), k = w.size(1);
  const auto type = onednn::data_type(dtype);
  const auto wanted = make({kRowsOfLayout, n, k, dtype, false, {}}, memory::desc({k, n}, type, memory::format_tag::any)).weights;
  const memory::desc plain({k, n}, type, memory::dims{w.stride(1), w.stride(0)});
  return {{onednn::reorder(w, plain, wanted)}, std::make_shared<const memory::desc>(wanted)};
}

void half_matmul(const at::Tensor& x, const Packed& weight, const at::Tensor& bias, Activation act, const at::Tensor& y) {
  const int64_t k = x.size(-1), n = y.size(-1);
  const Shape s{x.numel() / k, n, k, x.scalar_type(), bias.defined(), act};
  const onednn::Key key = {'l',
                           s.m,
                           s.n,
                           s.k,
                           static_cast<int64_t>(s.dtype),
                           s.bias,
                           static_cast<int64_t>(act.kind),
                           onednn::bits(act.slope),
                           at::get_num_threads()};
  const auto& layout = *std::static_pointer_cast<const memory::desc>(weight.layout);
  const auto made = onednn::primitives().get(key, [&] { return make(s, layout); });
  onednn::run(*made, x.data_ptr(), weight.parts[0].data_ptr(), bias.defined() ? bias.data_ptr() : nullptr, y.data_ptr());
}

}  // namespace blackwell_compat
