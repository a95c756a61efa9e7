// Tensors to parameters: dimensions merged, threads that share an output, splits that fill the card.
#include "aten/reduce_cuda.h"

#include <c10/core/DeviceGuard.h>

#include <algorithm>

#include "aten/rows.h"
#include "common/kernel_dtype.h"

namespace blackwell_compat {
namespace {

using at::Tensor;

constexpr int64_t kStateBytes = kReduceSharedBytes / kReduceThreads;
constexpr int64_t kLanesOfWarp = 32, kValuesOfLane = 4, kLeastOfSplit = 16, kMostOfLane = 4096;

struct Dim {
  int64_t size, stride;
};

int64_t power_of_two_from(int64_t least) {
  int64_t power = 1;
  while (power < least) power *= 2;
  return power;
}

// Innermost first, those merged that lie one in the other. False where they are still too many.
bool merge(const c10::SmallVector<Dim, 8>& dims, ReduceDims& merged) {
  merged.count = 0;
  for (const Dim& dim : dims) {
    const int last = merged.count - 1;
    if (last >= 0 && dim.stride == merged.stride[last] * merged.size[last]) {
      merged.size[last] *= dim.size;
      continue;
    }
    if (merged.count == kReduceDims) return false;
    merged.size[merged.count] = dim.size, merged.stride[merged.count] = dim.stride;
    ++merged.count;
  }
  return true;
}

bool set_dims(const Tensor& self, Dims dims, bool ordered, ReduceParams& p) {
  c10::SmallVector<Dim, 8> kept, reduced;
  p.outputs = p.n = 1;
  for (int64_t d = self.dim() - 1; d >= 0; --d) {
    (dims[d] ? p.n : p.outputs) *= self.size(d);
    if (self.size(d) != 1) (dims[d] ? reduced : kept).push_back({self.size(d), self.stride(d)});
  }
  if (!ordered) {
    std::stable_sort(reduced.begin(), reduced.end(), [](const Dim& a, const Dim& b) { return a.stride < b.stride; });
  }
  return merge(kept, p.kept) && merge(reduced, p.reduced);
}

bool are_packs(const ReduceParams& p, const Tensor& self) {
  const int64_t pack = 16 / self.element_size();
  const auto whole = [&](int64_t elements) { return elements % pack == 0; };
  if (p.reduced.count == 0 || p.reduced.stride[0] != 1 || !whole(p.reduced.size[0]) || !is_pack_aligned(self)) return false;
  return std::all_of(p.reduced.stride + 1, p.reduced.stride + p.reduced.count, whole) &&
         std::all_of(p.kept.stride, p.kept.stride + p.kept.count, whole);
}

void set_lanes(ReduceParams& p, int64_t n, int64_t values) {
  const int64_t most = p.across ? kReduceThreads / std::min<int64_t>(kLanesOfWarp, power_of_two_from(p.outputs)) : kReduceThreads;
  p.lanes = static_cast<int>(std::min<int64_t>(power_of_two_from(ceil_div(n, values)), most));
  p.output_blocks = ceil_div(p.outputs, kReduceThreads / p.lanes);
}

void set_splits(ReduceParams& p, int64_t pack, c10::Device device) {
  const int64_t multiprocessors = runtime::device_info(device).multiprocessors;
  int64_t splits = 1;
  if (p.output_blocks < 2 * multiprocessors) {
    splits = std::min<int64_t>(ceil_div(4 * multiprocessors, p.output_blocks), p.n / (p.lanes * kLeastOfSplit));
  }
  splits = std::max<int64_t>({splits, ceil_div(p.n, p.lanes * kMostOfLane), 1});
  p.part = std::max<int64_t>(1, ceil_div(ceil_div(p.n, splits), pack)) * pack;
  p.splits = static_cast<int>(std::max<int64_t>(1, ceil_div(p.n, p.part)));
}

}  // namespace

bool reduce_takes(const Tensor& self) {
  return self.is_cuda() && self.layout() == c10::kStrided && self.numel() < kMostRowElements && self.dim() <= 64;
}

void reduce_cuda(const std::string& kernel, ReduceParams p, const Tensor& self, Dims dims, const Tensor& out,
                 const Tensor& second, bool ordered) {
  const c10::DeviceGuard guard(self.device());
  Tensor in = self;
  if (!set_dims(in, dims, ordered, p)) {
    in = self.contiguous();
    if (!set_dims(in, dims, ordered, p)) {
      std::vector<int64_t> order;  // more runs of dimensions than the kernel counts: kept first, then all others together
      for (const bool reduced : {false, true}) {
        for (int64_t d = 0; d < self.dim(); ++d) {
          if (dims[d] == reduced) order.push_back(d);
        }
      }
      in = self.permute(order).contiguous();
      dims = (~Dims() >> (64 - dims.count())) << (self.dim() - dims.count());
      set_dims(in, dims, ordered, p);
    }
  }
  if (p.outputs == 0) return;
  p.in = in.const_data_ptr();
  p.out = out.defined() ? out.mutable_data_ptr() : nullptr;
  p.second = second.defined() ? second.mutable_data_ptr() : nullptr;
  p.packs = are_packs(p, in);
  p.across = p.kept.count > 0 && (p.reduced.count == 0 || p.kept.stride[0] < p.reduced.stride[0]);
  const int64_t pack = p.packs ? 16 / in.element_size() : 1;
  set_lanes(p, p.n, kValuesOfLane * pack);
  set_splits(p, pack, self.device());
  const Tensor partial =
      p.splits > 1 ? at::empty({p.splits * p.outputs * kStateBytes}, self.options().dtype(at::kByte)) : Tensor();
  p.partial = p.splits > 1 ? partial.mutable_data_ptr() : nullptr;
  const std::string name = "compat_reduce_" + kernel;
  runtime::launch(name, self.device(), {p.output_blocks * p.splits, kReduceThreads, kReduceSharedBytes}, &p);
  if (p.splits == 1) return;
  p.combines = true;
  p.across = p.outputs >= kLanesOfWarp;
  set_lanes(p, p.splits, 1);
  runtime::launch(name, self.device(), {p.output_blocks, kReduceThreads, kReduceSharedBytes}, &p);
}

void sum_cuda(const Tensor& self, Dims dims, const Tensor& out) {
  ReduceParams p{};
  p.wide = out.scalar_type() != self.scalar_type();
  reduce_cuda(std::string("sum_") + kernel_dtype(self.scalar_type()), p, self, dims, out);
}

}  // namespace blackwell_compat
