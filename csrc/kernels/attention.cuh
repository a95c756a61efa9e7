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

// Query rows of a block and keys that it takes at a time, for values of up to `width` columns
constexpr int attention_rows(int width, bool tensor_cores) { return tensor_cores || width <= 128 ? 64 : 32; }
constexpr int attention_keys(int width, bool tensor_cores, int architecture) {
  if (!tensor_cores) return width <= 128 ? 32 : 16;
  return width <= 128 ? 64 : architecture >= 800 ? 32 : 16;
}
// Lines of queries, keys and values are 16 bytes apart beyond their length, those of weights 4 floats
constexpr int attention_shared_bytes(int width, int element, bool tensor_cores, int architecture) {
  const int rows = attention_rows(width, tensor_cores), keys = attention_keys(width, tensor_cores, architecture);
  return (rows + 2 * keys) * (width * element + 16) + (tensor_cores ? 0 : rows * (keys + 4) * 4);
}

constexpr int kAttentionMergeThreads = 256;

}  // namespace blackwell_compat
