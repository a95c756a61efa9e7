// Host copies ("shadows") of device storages, so that what the CPU has read or made is not downloaded again. A shadow is equal
// to its storage as long as every writer is known: all ops of the dispatcher are, since they go through the fallback.
//
// With lazy upload, a shadow may be ahead of its storage: what the CPU wrote goes up when something asks for the card's bytes
// (a flush), or never, where the storage is freed first.
#pragma once
#include <c10/core/Storage.h>

#include <cstdint>

#include "common/card_packs.h"

namespace blackwell_compat::fallback {

// The shadow of `device`, or an empty Storage.
c10::Storage find_shadow(c10::StorageImpl* device);

// `host` holds the bytes of `device`, all of them, of which no other thread knows yet. The least recently used shadows go where
// the limit is passed.
void keep_shadow(c10::StorageImpl* device, const c10::Storage& host);

// `host` holds what came down after writes_past_shadows() gave `writes`. Returns the shadow: `host`; that of a thread which was
// faster, so that threads may write to parts of one storage; or none, where the limit or a write since then is in the way.
int64_t writes_past_shadows();
c10::Storage share_shadow(c10::StorageImpl* device, const c10::Storage& host, int64_t writes);

// Something else wrote to `device`.
void drop_shadow(c10::StorageImpl* device);
void drop_shadows();

// From now on something writes to `device` that nobody tells of: it gets no shadow any more.
void never_shadow(c10::StorageImpl* device);

// An op that writes bytes `begin` to `end` threw: the shadow is dropped, unless it alone has what was there before.
void half_written(c10::StorageImpl* device, int64_t begin, int64_t end);

// Bytes that shadows may take; 0 keeps none. By default a quarter of the memory.
void set_shadow_limit(int64_t bytes);
int64_t shadow_limit();
int64_t shadow_bytes();

// Whether uploads wait for a flush. Turning it off flushes.
void set_lazy(bool lazy);
bool is_lazy();

// The same for this thread alone, until as many have ended as have begun. The last one flushes. A call in mode hybrid is one.
void begin_lazy_call();
void end_lazy_call();
bool in_lazy_call();

// Bytes `begin` to `end` of `host` are newer than those of `device`, whose shadow it is. False where they have to go up now:
// uploads are not lazy, the shadow is no longer kept, or something else holds the address of `device`.
bool defer_upload(c10::StorageImpl* device, const c10::Storage& host, int64_t begin, int64_t end);

bool is_ahead(c10::StorageImpl* device);

// Uploads what is ahead, in the stream that was current when it was written; the current stream waits for it.
void flush(c10::StorageImpl* device);
void flush_all();

// Flushes, and from now on `device` is written at once: its address is known outside.
void expose(c10::StorageImpl* device);

// While it lives, bytes `begin` to `end` of `device` are written from `host`, or from somewhere else. Unless that is its shadow,
// the rest of the shadow is flushed first and the shadow dropped; no other one is kept meanwhile.
class Writing {
 public:
  Writing(c10::StorageImpl* device, int64_t begin, int64_t end, const c10::Storage& host = {});
  ~Writing();
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;

 private:
  c10::StorageImpl* device_;
  const CardWrite noted_;
};

}  // namespace blackwell_compat::fallback
