// Bytes between a storage of a card and the host, counted for the report.
#pragma once
#include <c10/core/Storage.h>

#include "runtime/driver.h"

namespace blackwell_compat::fallback {

// The bytes of a storage, on whichever device they are.
char* address(const c10::StorageImpl* storage);

// Waits until `bytes` of `from`, after `begin`, are there.
void download(void* to, const c10::StorageImpl* from, int64_t begin, int64_t bytes);

// `bytes` of `from`, after `from_begin`, in the order of `stream`, or of the current one. `from` may be freed at once, and
// written after runtime::wait_for_copies.
void upload(c10::StorageImpl* to, int64_t begin, const c10::Storage& from, int64_t from_begin, int64_t bytes,
            runtime::Stream stream);
void upload(c10::StorageImpl* to, int64_t begin, const c10::Storage& from, int64_t from_begin, int64_t bytes);

}  // namespace blackwell_compat::fallback
