// Page-locked host memory, which a card copies from by itself while the host goes on. From a bounded pool: beyond the bound, or
// where the driver refuses, there is none, and pageable memory does. A block that a copy still reads is not handed out again.
#pragma once
#include <c10/core/Allocator.h>
#include <c10/core/Storage.h>

#include <cstddef>
#include <cstdint>

#include "runtime/driver.h"

namespace blackwell_compat::runtime {

// Below it the driver takes pageable memory into its own at once.
constexpr size_t kSmallestPinned = (64 << 10) + 1;  // bytes

// Empty where there is none.
c10::DataPtr pinned_memory(size_t bytes, c10::Device device);

// A copy from `memory` was given to `stream`. Both functions leave alone memory that is not of the pool.
void copy_reads(const c10::DataPtr& memory, c10::Device device, Stream stream);

// Before the host writes there: waits for the copies that read it.
void wait_for_copies(const c10::DataPtr& memory);

// Keeps memory that is not of the pool until what the current stream has to do by now is done.
void keep_until_done(const c10::Storage& host, c10::Device device);

// Bytes the pool may hold, an eighth of the memory unless set; and holds, in use or not.
void set_pinned_limit(int64_t bytes);
int64_t pinned_limit();
int64_t pinned_bytes();

// Gives the driver back what nobody uses.
void release_unused_pinned();

}  // namespace blackwell_compat::runtime
