// oneDNN: engine, streams, data types. The only place that asks what the CPU can do.
#include "common/onednn.h"

#include <c10/util/Exception.h>
#include <omp.h>

#include <cstdlib>

namespace blackwell_compat {

std::optional<at::ScalarType> compute_dtype(at::ScalarType dtype) {
  // dnnl_cpu_isa_t orders its values by inclusion only among neighbours, so the flags are tested as sets of bits
  static const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto has = [](dnnl::cpu_isa feature) { return (isa & static_cast<unsigned>(feature)) == static_cast<unsigned>(feature); };
  static const bool bf16 = has(dnnl::cpu_isa::avx512_core_bf16);
  static const bool fp16 = has(dnnl::cpu_isa::avx512_core_fp16);
  switch (dtype) {
    case at::kFloat:
      return at::kFloat;
    case at::kBFloat16:
      return bf16 ? at::kBFloat16 : at::kFloat;
    case at::kHalf:
      return fp16 ? at::kHalf : at::kFloat;
    default:
      return std::nullopt;
  }
}

namespace onednn {

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  thread_local dnnl::stream stream(engine());
  return stream;
}

dnnl::memory::data_type data_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return dnnl::memory::data_type::f32;
    case at::kBFloat16:
      return dnnl::memory::data_type::bf16;
    case at::kHalf:
      return dnnl::memory::data_type::f16;
    default:
      TORCH_INTERNAL_ASSERT(false, "no oneDNN type for ", dtype);
  }
}

void append_activation(dnnl::post_ops& ops, Activation activation) {
  switch (activation.kind) {
    case Act::kNone:
      return;
    case Act::kRelu:
    case Act::kLeakyRelu:
      return ops.append_eltwise(dnnl::algorithm::eltwise_relu, activation.slope, 0);
    case Act::kGelu:
      return ops.append_eltwise(dnnl::algorithm::eltwise_gelu_erf, 0, 0);
    case Act::kGeluTanh:
      return ops.append_eltwise(dnnl::algorithm::eltwise_gelu_tanh, 0, 0);
    case Act::kSilu:
      return ops.append_eltwise(dnnl::algorithm::eltwise_swish, 1, 0);
    case Act::kTanh:
      return ops.append_eltwise(dnnl::algorithm::eltwise_tanh, 0, 0);
  }
}

PrimitiveCache& primitives() {
  static PrimitiveCache cache([] {
    const char* text = std::getenv("BLACKWELL_COMPAT_PRIMITIVES");
    const long value = text ? std::atol(text) : 0;
    return value > 0 ? static_cast<size_t>(value) : size_t{1024};
  }());
  return cache;
}

void run(const Primitive& made, void* source, void* weights, void* bias, void* target) {
  using dnnl::memory;
  std::unordered_map<int, memory> args = {
      {DNNL_ARG_SRC, {made.src, engine(), source}},
      {DNNL_ARG_WEIGHTS, {made.weights, engine(), weights}},
      {DNNL_ARG_DST, {made.dst, engine(), target}},
      {DNNL_ARG_SCRATCHPAD, {made.scratchpad, engine(), scratch(kOneDnn, made.scratchpad.get_size())}}};
  if (bias != nullptr) args.insert({DNNL_ARG_BIAS, {made.bias, engine(), bias}});
  made.primitive.execute(stream(), args);
}

at::Tensor reorder(const at::Tensor& weight, const dnnl::memory::desc& from, const dnnl::memory::desc& to) {
  at::Tensor packed = at::detail::empty_cpu({static_cast<int64_t>(to.get_size())}, at::kByte, false);
  dnnl::memory source(from, engine(), weight.data_ptr());
  dnnl::memory target(to, engine(), packed.data_ptr());
  dnnl::reorder(source, target).execute(stream(), source, target);
  stream().wait();
  return packed;
}

OneThread::OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
OneThread::~OneThread() { omp_set_num_threads(before_); }

}  // namespace onednn
}  // namespace blackwell_compat
