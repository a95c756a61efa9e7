// Host copies ("shadows") of device storages, so that what the CPU has read or made is not downloaded again. A shadow is equal
// to its storage as long as every writer is known: all ops of the dispatcher are, since they go through the fallback.
#pragma once
#include <c10/core/Storage.h>

#include <cstdint>

namespace blackwell_compat::fallback {

// The shadow of `device`, or an empty Storage.
c10::Storage find_shadow(c10::StorageImpl* device);

// `host` holds the bytes of `device`, all of them. The least recently used shadows go where the limit is passed.
void keep_shadow(c10::StorageImpl* device, const c10::Storage& host);

// Something else wrote to `device`.
void drop_shadow(c10::StorageImpl* device);
void drop_shadows();

// From now on something writes to `device` that nobody tells of: it gets no shadow any more.
void never_shadow(c10::StorageImpl* device);

// Bytes that shadows may take; 0 keeps none. By default a quarter of the memory.
void set_shadow_limit(int64_t bytes);
int64_t shadow_limit();
int64_t shadow_bytes();

}  // namespace blackwell_compat::fallback
