// PyTorch's scaled_dot_product_attention by one kernel, where no gradient is wanted; else PyTorch makes it of products and a
// softmax.
#include "kernels/attention.cuh"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/DeviceGuard.h>
#include <torch/version.h>

#include <cmath>

#include "common/ceil_div.h"
#include "common/kernel_dtype.h"
#include "common/own_kernels.h"
#include "common/pass_on.h"
#include "runtime/device_info.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

constexpr int64_t kAlignment = 16;          // bytes that the kernel reads at a time
constexpr int64_t kMostFoldedQueries = 16;  // that heads with common keys are taken at once for
constexpr int64_t kFewBlocks = 3;           // of few rows, that a multiprocessor runs at once

// What PyTorch's own composite gives for a query whose keys are all masked
constexpr float kOfNoKeys = TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 5 ? 0 : NAN;

bool is_plain(const Tensor& t) { return t.is_cuda() && t.layout() == c10::kStrided && !t.is_nested(); }

// (batch, heads, rows, columns)
Tensor in_heads(const Tensor& t) {
  if (t.dim() == 4) return t;
  return t.dim() == 3 ? t.unsqueeze(1) : t.unsqueeze(0).unsqueeze(0);
}

struct Call {
  Tensor query, key, value, mask;
  bool causal, grouped;
  double scale;
};

bool fits(const Call& call, const Tensor& query, const Tensor& key, const Tensor& value) {
  const auto dtype = query.scalar_type();
  if (dtype != at::kFloat && dtype != at::kHalf && dtype != at::kBFloat16) return false;
  if (query.dim() < 2 || query.dim() > 4) return false;
  for (const Tensor* other : {&key, &value}) {
    if (other->dim() != query.dim() || other->scalar_type() != dtype || other->device() != query.device()) return false;
    if (!is_plain(*other) || other->size(-1) != query.size(-1) || other->size(-2) != key.size(-2)) return false;
  }
  const bool heads_fit = call.key.size(1) == call.query.size(1) ||
                         (call.grouped && call.key.size(1) > 0 && call.query.size(1) % call.key.size(1) == 0);
  const bool sizes_fit =
      heads_fit && call.key.size(0) == call.query.size(0) && call.key.sizes().slice(0, 2) == call.value.sizes().slice(0, 2);
  return is_plain(query) && sizes_fit && query.numel() > 0 && key.numel() > 0 && query.size(-1) <= 256 &&
         query.numel() / query.size(-1) < (int64_t{1} << 31) && key.size(-2) < (int64_t{1} << 31) / 2;
}

bool mask_fits(const Call& call, const Tensor& query, const Tensor& mask) {
  if (!mask.defined()) return true;
  if (call.causal || !is_plain(mask) || mask.device() != query.device()) return false;
  if (mask.scalar_type() != at::kBool && mask.scalar_type() != query.scalar_type()) return false;
  auto sizes = query.sizes().vec();
  sizes.back() = call.key.size(2);
  return at::is_expandable_to(mask.sizes(), sizes);
}

bool is_aligned(const Tensor& t) {
  const int64_t element = t.element_size();
  bool aligned = t.stride(3) == 1 && reinterpret_cast<uintptr_t>(t.const_data_ptr()) % kAlignment == 0 &&
                 t.size(3) * element % kAlignment == 0;
  for (int d = 0; d < 3; ++d) aligned = aligned && (t.size(d) == 1 || t.stride(d) * element % kAlignment == 0);
  return aligned;
}

bool takes_tensor_cores(at::ScalarType dtype, int capability) {
  return (dtype == at::kHalf && capability >= 75) || (dtype == at::kBFloat16 && capability >= 80);
}

const char* suffix(AttentionKind kind) {
  return kind == AttentionKind::kTall ? "_tall" : kind == AttentionKind::kFew ? "_few" : "";
}

// Whether a card has the shared memory that it takes
bool attend(const Call& call, const Tensor& out) {
  const c10::DeviceGuard guard(out.device());
  const auto& card = runtime::device_info(out.device());
  const auto dtype = out.scalar_type();
  const int64_t width = call.query.size(3), tile_width = width <= 64 ? 64 : width <= 128 ? 128 : 256;
  const int64_t batch = out.size(0), heads = out.size(1), queries = out.size(2), keys = call.key.size(2);
  const int64_t group = heads / call.key.size(1), fold = queries <= kMostFoldedQueries ? group : 1;
  const int tile = static_cast<int>(tile_width), element = static_cast<int>(out.element_size());
  const int64_t rows = queries * fold, units = batch * heads / fold;
  const auto row_tiles_of = [&](AttentionKind kind) {
    return ceil_div(rows, attention_rows(kind, tile, element, card.tiles_for));
  };

  const auto shared_bytes_of = [&](AttentionKind kind) { return attention_shared_bytes(kind, tile, element, card.tiles_for); };

  AttentionKind kind = AttentionKind::kPlain;
  if (takes_tensor_cores(dtype, card.capability)) {
    const bool tall = tile <= 128 && fold == 1 && !call.mask.defined() &&
                      row_tiles_of(AttentionKind::kTall) * units >= 2 * card.multiprocessors;
    const bool few = rows <= attention_rows(AttentionKind::kFew, tile, element, card.tiles_for) &&
                     shared_bytes_of(AttentionKind::kFew) <= card.shared_bytes_per_block;
    kind = tall ? AttentionKind::kTall : few ? AttentionKind::kFew : AttentionKind::kBand;
  }
  const int shared_bytes = shared_bytes_of(kind);
  if (shared_bytes > card.shared_bytes_per_block) return false;

  AttentionParams p{};
  p.query = call.query.const_data_ptr(), p.key = call.key.const_data_ptr(), p.value = call.value.const_data_ptr();
  p.out = out.mutable_data_ptr();
  p.query_batch = call.query.stride(0), p.query_head = call.query.stride(1);
  p.query_row = call.query.stride(2), p.query_column = call.query.stride(3);
  p.key_batch = call.key.stride(0), p.key_head = call.key.stride(1);
  p.key_row = call.key.stride(2), p.key_column = call.key.stride(3);
  p.value_batch = call.value.stride(0), p.value_head = call.value.stride(1);
  p.value_row = call.value.stride(2), p.value_column = call.value.stride(3);
  p.out_batch = out.stride(0), p.out_head = out.stride(1), p.out_row = out.stride(2);
  if (call.mask.defined()) {
    p.mask = call.mask.const_data_ptr(), p.mask_is_bool = call.mask.scalar_type() == at::kBool;
    p.mask_batch = call.mask.stride(0), p.mask_head = call.mask.stride(1);
    p.mask_row = call.mask.stride(2), p.mask_key = call.mask.stride(3);
  }
  p.results = batch * heads * queries;
  p.heads = static_cast<int>(heads), p.group = static_cast<int>(group), p.fold = static_cast<int>(fold);
  p.queries = static_cast<int>(queries), p.keys = static_cast<int>(keys), p.width = static_cast<int>(width);
  p.causal = call.causal, p.scale = static_cast<float>(call.scale), p.of_no_keys = kOfNoKeys;
  p.vectors = is_aligned(call.query) && is_aligned(call.key) && is_aligned(call.value);

  const int64_t row_tiles = row_tiles_of(kind), blocks = row_tiles * units;
  const int64_t keys_of_tile = attention_keys(kind, tile, element, card.tiles_for), key_tiles = ceil_div(keys, keys_of_tile);
  const bool few = kind == AttentionKind::kFew;
  const int64_t enough = int64_t{few ? kFewBlocks : 1} * card.multiprocessors, wanted = few ? enough : 2 * enough;
  const int64_t most = blocks >= enough ? 1 : std::min(ceil_div(wanted, blocks), key_tiles);
  const int64_t tiles_of_split = ceil_div(key_tiles, most), splits = ceil_div(key_tiles, tiles_of_split);
  p.keys_per_split = static_cast<int>(tiles_of_split * keys_of_tile);
  p.row_tiles = static_cast<unsigned>(row_tiles), p.splits = static_cast<unsigned>(splits);
  const auto floats = out.options().dtype(at::kFloat);
  const Tensor partial = splits > 1 ? at::empty({splits * p.results * (width + 2)}, floats) : Tensor();
  if (splits > 1) {
    p.partial = static_cast<float*>(partial.mutable_data_ptr());
    p.partial_sums = p.partial + splits * p.results * width;
  }
  const std::string of = kernel_dtype(dtype);
  runtime::launch("compat_attention_" + of + "_" + std::to_string(tile) + suffix(kind), out.device(),
                  {blocks * splits, kAttentionThreads, shared_bytes}, &p);
  if (splits > 1) {
    runtime::launch("compat_attention_merge_" + of, out.device(),
                    {ceil_div(p.results * width, kAttentionMergeThreads), kAttentionMergeThreads, 0}, &p);
  }
  return true;
}

// (query, key, value, attn_mask, dropout_p, is_causal, scale, [enable_gqa])
bool scaled_dot_product_attention(const c10::OperatorHandle& op, Stack* stack) {
  const size_t count = op.schema().arguments().size();
  const auto given = torch::jit::last(*stack, count);
  const Tensor query = given[0].toTensor(), key = given[1].toTensor(), value = given[2].toTensor();
  const Tensor mask = optional_tensor(given[3]);
  if (!given[4].isDouble() || given[4].toDouble() != 0 || query.dim() < 2 || key.dim() < 2 || value.dim() < 2) return false;
  if (query.dim() > 4 || key.dim() > 4 || value.dim() > 4) return false;
  if (!given[6].isNone() && !given[6].isDouble()) return false;
  const double scale = given[6].isNone() ? 1 / std::sqrt(static_cast<double>(query.size(-1))) : given[6].toDouble();
  const at::AutoDispatchBelowADInplaceOrView below;
  Call call{in_heads(query), in_heads(key), in_heads(value), {}, given[5].toBool(), count > 7 && given[7].toBool(), scale};
  if (!fits(call, query, key, value) || !mask_fits(call, query, mask)) return false;
  if (mask.defined()) {
    auto sizes = query.sizes().vec();
    sizes.back() = key.size(-2);
    call.mask = in_heads(mask.expand(sizes));
  }
  // As PyTorch's own kernels have it: heads lie in rows
  const int64_t batch = call.query.size(0), heads = call.query.size(1), queries = call.query.size(2), width = call.query.size(3);
  const Tensor out = at::empty({batch, queries, heads, width}, query.options()).transpose(1, 2);
  if (!attend(call, out)) return false;
  give(stack, count, {query.dim() == 4 ? out : out.view(query.sizes())});
  return true;
}

const OwnKernel attention{"aten::scaled_dot_product_attention", scaled_dot_product_attention};

}  // namespace
}  // namespace blackwell_compat
