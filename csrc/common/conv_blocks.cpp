// Convolution in blocks: how positions are shared out, how a block is gathered and scattered.
#include "common/conv_blocks.h"

#include <ATen/Parallel.h>
#include <c10/util/irange.h>

#include <algorithm>
#include <cstring>

#include "common/clones.h"
#include "common/transpose.h"

namespace blackwell_compat {
namespace {

BC_CLONES void leaky(float* values, int64_t count, float slope) {
  const Leaky activation(slope);
  for (int64_t i = 0; i < count; ++i) values[i] = activation(values[i]);
}

template <typename T>
void leaky(T* values, int64_t count, float slope) {
  const Leaky activation(slope);
  for (const auto i : c10::irange(count)) values[i] = static_cast<T>(activation(static_cast<float>(values[i])));
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

  // Input positions [begin, begin + count) of sample n as rows; those outside the signal are zero.
  const Work* operator()(int64_t n, int64_t begin, int64_t count) const {
    // A block may lie in the padding as a whole, before the signal or behind it: then all of it is zeros
    const int64_t before = std::clamp<int64_t>(-begin, 0, count), first = begin + before;
    const int64_t inside = std::clamp<int64_t>(length_ - first, 0, count - before);
    const Stored* sample = base_ + n * sample_stride_;
    if constexpr (std::is_same_v<Work, Stored>) {
      if (rows_ && layer_.pre.none() && inside == count) return reinterpret_cast<const Work*>(sample + first * channels_);
    }
    auto* block = reinterpret_cast<Work*>(scratch(kGathered, count * channels_ * sizeof(Work)));
    Work* kept = block + before * channels_;
    const int64_t values = inside * channels_;
    std::memset(static_cast<void*>(block), 0, before * channels_ * sizeof(Work));
    std::memset(static_cast<void*>(kept + values), 0, (count - before - inside) * channels_ * sizeof(Work));
    if (values == 0) return block;
    if (rows_) {
      convert(sample + first * channels_, values, kept);
    } else if constexpr (std::is_same_v<Work, Stored>) {
      transpose(reinterpret_cast<const Bits<Work>*>(sample + first), plane_stride_, channels_, inside,
                reinterpret_cast<Bits<Work>*>(kept), channels_);
    } else {
      auto* planes = reinterpret_cast<Work*>(scratch(kConverted, values * sizeof(Work)));
      for (const auto c : c10::irange(channels_)) {
        convert(sample + c * plane_stride_ + first, inside, planes + c * inside);
      }
      transpose(reinterpret_cast<const Bits<Work>*>(planes), inside, channels_, inside, reinterpret_cast<Bits<Work>*>(kept),
                channels_);
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
    return reinterpret_cast<Work*>(scratch(kScattered, positions * c_out_ * sizeof(Work)));
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
      auto* planes = reinterpret_cast<Work*>(scratch(kPlanes, count * channels_ * sizeof(Work)));
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
void run(const ConvLayer& layer, const ConvStep& step, const ConvSignals& s) {
  const int64_t batch = s.input.size(0), l_out = s.output.size(2), u = layer.rows_per_position, longest = step.longest_block();
  const int64_t threads = at::get_num_threads();
  const int64_t spans = batch % threads == 0 ? 1 : std::min(threads, (s.positions + 15) / 16);
  const int64_t span = (s.positions + spans - 1) / spans;
  const Gather<Work, Stored> gather(layer, s.input);
  const Scatter<Work, Stored> scatter(layer, s);

  at::parallel_for(0, batch * spans, 1, [&](int64_t task, int64_t tasks_end) {
    for (; task < tasks_end; ++task) {
      const int64_t n = task / spans, span_begin = task % spans * span;
      const int64_t span_end = std::min(span_begin + span, s.positions);
      // The kept rows of this span; neighbours write theirs
      const int64_t row_begin = std::clamp<int64_t>(span_begin * u - s.skip_rows, 0, l_out);
      const int64_t row_end = std::clamp<int64_t>(span_end * u - s.skip_rows, 0, l_out);
      for (int64_t done = span_begin; done < span_end;) {
        // Blocks of even length
        const int64_t blocks = (span_end - done + longest - 1) / longest;
        const int64_t count = step.block_length((span_end - done + blocks - 1) / blocks);
        // The last block is moved back into the span where it would reach over its end
        const int64_t begin = std::max(span_begin, std::min(done, span_end - count));
        const int64_t row = begin * u - s.skip_rows;
        const Work* source = gather(n, begin * layer.stride - s.pad_left, layer.rows_reached(count));
        Work* target = scatter.target(n, row, count, row_begin, row_end);
        step.compute(count, source, target);
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

Packed pack_conv(ConvMethod method, const at::Tensor& weight, const ConvLayer& layer, at::ScalarType dtype) {
  switch (method) {
    case ConvMethod::kOneDnn:
      return pack_onednn(weight, layer, dtype);
    case ConvMethod::kRows:
      return pack_rows(weight, layer);
    case ConvMethod::kMinimal:
      return pack_minimal(weight, layer);
    case ConvMethod::kFew:
      return pack_few(weight, layer);
    case ConvMethod::kDepthwise:
      return pack_depthwise(weight, layer);
  }
  return {};
}

std::unique_ptr<ConvStep> conv_step(ConvMethod method, const ConvLayer& layer, at::ScalarType dtype, const Packed& weight,
                                    const void* bias) {
  const auto* values = static_cast<const float*>(bias);
  switch (method) {
    case ConvMethod::kOneDnn:
      return step_onednn(layer, dtype, weight, bias);
    case ConvMethod::kRows:
      return step_rows(layer, weight, values);
    case ConvMethod::kMinimal:
      return step_minimal(layer, weight, values);
    case ConvMethod::kFew:
      return step_few(layer, weight, values);
    case ConvMethod::kDepthwise:
      return step_depthwise(layer, weight, values);
  }
  return nullptr;
}

void conv_blocks(const ConvLayer& layer, at::ScalarType dtype, const ConvStep& step, const ConvSignals& signals) {
  const auto stored = signals.input.scalar_type();
  if (dtype == at::kFloat && stored == at::kFloat) return run<float, float>(layer, step, signals);
  if (dtype == at::kFloat && stored == at::kBFloat16) return run<float, at::BFloat16>(layer, step, signals);
  if (dtype == at::kFloat && stored == at::kHalf) return run<float, at::Half>(layer, step, signals);
  if (dtype == at::kBFloat16) return run<at::BFloat16, at::BFloat16>(layer, step, signals);
  return run<at::Half, at::Half>(layer, step, signals);
}

}  // namespace blackwell_compat
