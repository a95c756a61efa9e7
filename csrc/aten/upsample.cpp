// PyTorch's upsampling of signals and images, nearest and linear with their gradients, and bicubic.
#include "kernels/upsample.cuh"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "common/ceil_div.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

constexpr int64_t kAlignment = 16;  // bytes that a thread writes

bool is_linear(Between between) { return between == Between::kLinear || between == Between::kCorners; }

// As PyTorch has it; floats but for float64
double scale_of(Between between, int64_t image, int64_t result, const IValue& factor, bool wide) {
  const auto quotient = [&](double a, double b) { return wide ? a / b : double{static_cast<float>(a) / static_cast<float>(b)}; };
  if (between == Between::kCorners) return result > 1 ? quotient(image - 1, result - 1) : 0;
  if (factor.isDouble() && factor.toDouble() > 0) return 1 / factor.toDouble();
  return quotient(image, result);
}

Tensor as_image(const Tensor& t) { return t.dim() == 3 ? t.unsqueeze(2) : t; }

// Of a result for `in`; empty where PyTorch would take issue
std::vector<int64_t> sizes_of(const Tensor& in, const IValue& output_size, const IValue* input_size) {
  constexpr int64_t kMost = int64_t{1} << 30;
  if (!output_size.isIntList() || (input_size && !input_size->isIntList())) return {};
  std::vector<int64_t> of_result = in.sizes().slice(0, 2).vec();
  for (const int64_t size : output_size.toIntVector()) of_result.push_back(size);
  const auto sizes = input_size ? input_size->toIntVector() : of_result;
  if (static_cast<int64_t>(sizes.size()) != in.dim() || (input_size && in.sizes() != of_result)) return {};
  for (const int64_t size : sizes) {
    if (size < 1 || size >= kMost) return {};
  }
  const bool same = sizes[0] == in.size(0) && sizes[1] == in.size(1);
  return same && in.numel() / in.size(0) / in.size(1) < kMost ? sizes : std::vector<int64_t>();
}

// From `in` to the dense `out`, both (N, C, height, width); `factors` are those of the axes.
void launch(const char* kernel, const Tensor& in, const Tensor& out, Between between, const IValue& down, const IValue& across,
            bool in_pieces, bool backward) {
  UpsampleParams p{};
  p.in = in.const_data_ptr(), p.out = out.mutable_data_ptr();
  p.in_batch = in.stride(0), p.in_channel = in.stride(1);
  p.results = out.numel(), p.channels = static_cast<int>(out.size(1)), p.between = between;
  p.channels_last = !out.is_contiguous();
  const Tensor &image = backward ? out : in, &result = backward ? in : out;
  for (int d = 0; d < 2; ++d) {
    p.in_axis[d] = in.stride(2 + d);
    p.in_size[d] = static_cast<int>(in.size(2 + d)), p.out_size[d] = static_cast<int>(out.size(2 + d));
    p.scale[d] = scale_of(between, image.size(2 + d), result.size(2 + d), d ? across : down,
                          is_linear(between) && out.scalar_type() == at::kDouble);
  }
  const int64_t piece = kAlignment / static_cast<int64_t>(out.element_size()), line = p.channels_last ? out.size(1) : out.size(3);
  const bool whole = in_pieces && line % piece == 0 && reinterpret_cast<uintptr_t>(p.out) % kAlignment == 0;
  p.piece = static_cast<int>(whole ? piece : 1);
  runtime::launch(std::string(kernel) + kernel_dtype(out.scalar_type()), out.device(),
                  {ceil_div(p.results / p.piece, kUpsampleThreads), kUpsampleThreads, 0}, &p);
}

// (self, output_size, [align_corners], scales of `axes`), backward (grad_output, output_size, input_size, ...)
template <Between between, int64_t axes, bool backward, bool cubic = false>
bool upsample(Stack* stack) {
  constexpr bool kLinear = between == Between::kLinear;
  constexpr size_t kOptions = backward ? 3 : 2, kCount = kOptions + kLinear + axes;
  const auto given = torch::jit::last(*stack, kCount);
  const Tensor in = given[0].toTensor();
  if (!kernel_dtype(in.scalar_type()) || in.dim() != 2 + axes || in.layout() != c10::kStrided || in.numel() == 0) return false;
  const Between kind = kLinear && given[kOptions].toBool() ? Between::kCorners : between;
  const size_t factors = kOptions + kLinear;
  const IValue down = axes == 2 ? given[factors] : IValue(), across = given[factors + axes - 1];
  const auto sizes = sizes_of(in, given[1], backward ? &given[2] : nullptr);
  if (sizes.empty()) return false;
  const c10::DeviceGuard guard(in.device());
  const auto format = axes == 2 ? in.suggest_memory_format() : at::MemoryFormat::Contiguous;
  const Tensor out = at::empty(sizes, in.options(), format);
  constexpr const char* kKernel = backward ? "compat_upsample_grad_" : cubic ? "compat_upsample_cubic_" : "compat_upsample_";
  launch(kKernel, as_image(in), as_image(out), kind, down, across, !backward && !cubic, backward);
  give(stack, kCount, {out});
  return true;
}

template <Between between, int64_t axes>
struct Kernels {
  explicit Kernels(const std::string& op)
      : forward(op, upsample<between, axes, false>), backward(op + "_backward", upsample<between, axes, true>) {}

  OwnKernel forward, backward;
};

const Kernels<Between::kNearest, 1> nearest1d{"aten::upsample_nearest1d"};
const Kernels<Between::kNearest, 2> nearest2d{"aten::upsample_nearest2d"};
const Kernels<Between::kExact, 1> exact1d{"aten::_upsample_nearest_exact1d"};
const Kernels<Between::kExact, 2> exact2d{"aten::_upsample_nearest_exact2d"};
const Kernels<Between::kLinear, 1> linear1d{"aten::upsample_linear1d"};
const Kernels<Between::kLinear, 2> bilinear2d{"aten::upsample_bilinear2d"};
const OwnKernel bicubic2d{"aten::upsample_bicubic2d", upsample<Between::kLinear, 2, false, true>};

}  // namespace
}  // namespace blackwell_compat
