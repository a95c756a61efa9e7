// Bytes between a storage of a card and the host, counted for the report.
#pragma once
#include <c10/core/Storage.h>

#include <optional>

#include "runtime/driver.h"

namespace blackwell_compat::fallback {

// The bytes of a storage, on whichever device they are.
char* address(const c10::StorageImpl* storage);

// A resizable storage of the host; where it is to be uploaded to `device`, page-locked if it is large.
c10::Storage host_storage(int64_t bytes, std::optional<c10::Device> device);

// `host`, or a page-locked copy of it if it is large. Not the result of an allocator in the place of PyTorch's: oneDNN takes
// memory from that one too, in a way that fits no other deleter.
c10::Storage staged(const c10::Storage& host, c10::Device device);

// Waits until `bytes` of `from`, after `begin`, are there.
void download(void* to, const c10::StorageImpl* from, int64_t begin, int64_t bytes);

// `bytes` of `from`, after `from_begin`, in the order of `stream`, or of the current one. `from` may be freed at once, and
// written after runtime::wait_for_copies.
void upload(c10::StorageImpl* to, int64_t begin, const c10::Storage& from, int64_t from_begin, int64_t bytes,
            runtime::Stream stream);
void upload(c10::StorageImpl* to, int64_t begin, const c10::Storage& from, int64_t from_begin, int64_t bytes);

}  // namespace blackwell_compat::fallback
