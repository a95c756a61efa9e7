// attention: out = softmax(scale * query key^T + mask) value for every head. What the host and the card share.
#pragma once

namespace blackwell_compat {

// Strides count elements. A row is a query of one of `fold` heads that share keys and values: row r is query r % queries of head
// r / queries of them.
struct AttentionParams {
  const void *query, *key, *value;
  const void* mask;  // may be null; of bool, or added
  void* out;
  float *partial, *partial_sums;  // where splits > 1: (splits, batch * heads * queries, width), and (..., 2): largest score, sum
  long long query_batch, query_head, query_row, query_column;
  long long key_batch, key_head, key_row, key_column;
  long long value_batch, value_head, value_row, value_column;
  long long mask_batch, mask_head, mask_row, mask_key;
  long long out_batch, out_head, out_row;
  long long results;       // batch * heads * queries
  int heads, group, fold;  // of the query; that share keys and values; of them, that a block takes at once
  int queries, keys, width;
  int keys_per_split;
  unsigned row_tiles, splits;
  int causal, mask_is_bool;
  int vectors;  // whether 16 bytes can be read at once
  float scale;
  float of_no_keys;  // the result where every key is masked
};

constexpr int kAttentionThreads = 128, kAttentionWarps = kAttentionThreads / 32;

// How a block shares its work. Multiply-adds alone; or by tensor cores: each warp a band of 16 rows; each two of them, which read
// keys and values half as often, where there is no mask; all of them the same 16 rows and each its own keys, for want of rows.
enum class AttentionKind { kPlain, kBand, kTall, kFew };

// Two blocks of more than 48 KiB, and no local memory with as many keys
constexpr bool has_tall_tiles(int architecture) { return architecture == 800 || architecture == 870 || architecture == 900; }

constexpr bool has_small_shared_memory(int architecture) { return architecture < 700 || architecture == 750; }  // 48, 64 KiB

// Query rows of a block and keys that it takes at a time, for values of up to `width` columns of `element` bytes
constexpr int attention_rows(AttentionKind kind, int width, int element, int architecture) {
  if (kind == AttentionKind::kFew) return 16;
  if (kind != AttentionKind::kPlain) return kind == AttentionKind::kTall ? 128 : 64;
  if (has_small_shared_memory(architecture)) return width * element <= 256 ? 64 : width * element <= 512 ? 32 : 16;
  return width <= 128 ? 64 : 32;
}
constexpr int attention_keys(AttentionKind kind, int width, int element, int architecture) {
  if (kind == AttentionKind::kPlain) return attention_rows(kind, width, element, architecture) / 2;
  if (kind == AttentionKind::kFew) return 16 * kAttentionWarps;
  if (kind == AttentionKind::kTall && width == 128) return has_tall_tiles(architecture) ? 48 : 32;
  return width <= 128 ? 64 : architecture >= 800 ? 32 : 16;
}
// Lines for multiply-adds are 16 bytes apart beyond their length, those of weights 4 floats. Of few rows each warp has the
// largest score and the sum.
constexpr int attention_shared_bytes(AttentionKind kind, int width, int element, int architecture) {
  const int rows = attention_rows(kind, width, element, architecture), keys = attention_keys(kind, width, element, architecture);
  const bool plain = kind == AttentionKind::kPlain;
  return (rows + 2 * keys) * (width * element + (plain ? 16 : 0)) + (plain ? rows * (keys + 4) * 4 : 0) +
         (kind == AttentionKind::kFew ? kAttentionWarps * rows * 8 : 0);
}

constexpr int kAttentionMergeThreads = 256;

}  // namespace blackwell_compat
