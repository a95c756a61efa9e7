// Weights of convolutions as a card's kernels read them, kept from call to call where every writer is known.
#pragma once
#include <ATen/ATen.h>

#include "common/pack_cache.h"

namespace blackwell_compat {

struct Conv1dPackParams;

// `weight` laid out anew by `params`, all but their `out`, for what the current stream does next. While keep_card_packs is on it
// is kept for that stream, from the second call on in which the weight is as it was; a parameter's from the first. Thread-safe.
//
// A weight is as it was where its version is (inference tensors have none), no CardWrite was since, and its storage alone owns
// its memory. While a CUDA graph is captured nothing is kept, and nothing used that was: a replay may come after the weight
// changed and the pack was freed.
at::Tensor pack_on_card(const at::Tensor& weight, const Conv1dPackParams& params);

// Whether there is a CardWrite for all that writes, as there is while the fallback is in the dispatcher. Off drops all packs. On
// reads BLACKWELL_COMPAT_CARD_PACK_BYTES: what packs may take of each card, a sixteenth of its memory where it is unset.
void keep_card_packs(bool on);

// While it lives, something that writes to `storage` is given to a stream.
class CardWrite {
 public:
  explicit CardWrite(const c10::StorageImpl& storage);
  ~CardWrite();
  CardWrite(const CardWrite&) = delete;
  CardWrite& operator=(const CardWrite&) = delete;

 private:
  const c10::StorageImpl* storage_;                               // which the write may free
  const char *foreign_begin_ = nullptr, *foreign_end_ = nullptr;  // its memory, where other storages may have it too
};

// From now on something may write to `storage` without a CardWrite: nothing is kept of it any more. That holds for a weight that
// has gradients, too: it changes at each step, and optimizers in C++ tell nobody.
void keep_no_card_pack(c10::StorageImpl* storage);
inline void keep_no_card_pack(const at::Tensor& weight) { keep_no_card_pack(weight.storage().unsafeGetStorageImpl()); }

// Something may have written to anything.
void drop_card_packs();

PackStats card_pack_stats();

}  // namespace blackwell_compat
