// One block of a convolution: rows in, rows out, in the calling thread. How it is computed is chosen per layer.
#pragma once
#include <memory>

#include "common/activation.h"
#include "common/cpu.h"
#include "common/pack_cache.h"

namespace blackwell_compat {

// The layer. A transposed convolution is one whose every position holds `rows_per_position` output rows, its phases.
struct ConvLayer {
  int64_t c_in, c_out;  // of the convolution that is computed; c_out counts all the phases
  int64_t kernel, stride, dilation, groups;
  int64_t rows_per_position;
  bool bias;
  Activation pre, act;

  // Input rows that `positions` output positions reach over.
  int64_t rows_reached(int64_t positions) const { return (positions - 1) * stride + (kernel - 1) * dilation + 1; }
};

enum class ConvMethod : int8_t {
  kOneDnn,     // bfloat16 and float16, where the CPU has them
  kRows,       // float32: common/row_gemm.h
  kMinimal,    // float32, stride 1: minimal filtering, a third fewer products
  kFew,        // float32, up to 4 outputs a group: scalar products, vectors along the inputs
  kDepthwise,  // float32, one input and one output channel a group: vectors along the channels
};

ConvMethod conv_method(const ConvLayer& layer, at::ScalarType dtype);

// The float32 method for a layer whose weight exists only packed: one whose packed form is about as large as the weight, and
// gives its bits back. Minimal filtering takes 1.3 to 1.5 times as much.
ConvMethod only_packed_method(const ConvLayer& layer);
at::Tensor unpack_conv(ConvMethod method, const at::Tensor& packed, const ConvLayer& layer);  // (C_out, C_in / groups, K)
int64_t only_packed_size(const ConvLayer& layer);                                             // floats

// Computes blocks of one layer. Thread-safe.
class ConvStep {
 public:
  virtual ~ConvStep() = default;
  virtual int64_t longest_block() const = 0;                  // positions
  virtual int64_t block_length(int64_t positions) const = 0;  // the length on offer next to `positions`
  virtual void compute(int64_t positions, const void* source, void* target) const = 0;
};

// `weight` (C_out, C_in / groups, K), any strides; no parts where the method has no fast kernel for this layer after all.
Packed pack_conv(ConvMethod method, const at::Tensor& weight, const ConvLayer& layer, at::ScalarType dtype);

// bias: (C_out) in `dtype`, or null. Everything given stays alive and in place while the step is used.
std::unique_ptr<ConvStep> conv_step(ConvMethod method, const ConvLayer& layer, at::ScalarType dtype, const Packed& weight,
                                    const void* bias);

// The methods, each in its own file.
Packed pack_onednn(const at::Tensor& weight, const ConvLayer& layer, at::ScalarType dtype);
std::unique_ptr<ConvStep> step_onednn(const ConvLayer& layer, at::ScalarType dtype, const Packed& weight, const void* bias);
Packed pack_rows(const at::Tensor& weight, const ConvLayer& layer);
std::unique_ptr<ConvStep> step_rows(const ConvLayer& layer, const Packed& weight, const float* bias);
Packed pack_minimal(const at::Tensor& weight, const ConvLayer& layer);
std::unique_ptr<ConvStep> step_minimal(const ConvLayer& layer, const Packed& weight, const float* bias);
Packed pack_few(const at::Tensor& weight, const ConvLayer& layer);
std::unique_ptr<ConvStep> step_few(const ConvLayer& layer, const Packed& weight, const float* bias);
Packed pack_depthwise(const at::Tensor& weight, const ConvLayer& layer);
std::unique_ptr<ConvStep> step_depthwise(const ConvLayer& layer, const Packed& weight, const float* bias);

}  // namespace blackwell_compat
