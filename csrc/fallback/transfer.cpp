// What runtime/copy.h does, for storages.
#include "fallback/transfer.h"

#include "fallback/counters.h"
#include "runtime/copy.h"
#include "runtime/host_memory.h"

namespace blackwell_compat::fallback {

char* address(const c10::StorageImpl* storage) { return static_cast<char*>(storage->data_ptr().get()); }

void download(void* to, const c10::StorageImpl* from, int64_t begin, int64_t bytes) {
  if (bytes == 0) return;
  runtime::copy_to_host(to, address(from) + begin, bytes, from->device());
  count_to_host(bytes);
}

void upload(c10::StorageImpl* to, int64_t begin, const c10::Storage& from, int64_t from_begin, int64_t bytes,
            runtime::Stream stream) {
  if (bytes == 0) return;
  runtime::copy_to_device(address(to) + begin, static_cast<const char*>(from.data()) + from_begin, bytes, to->device(), stream);
  runtime::copy_reads(from.data_ptr(), to->device(), stream);
  count_to_device(bytes);
}

void upload(c10::StorageImpl* to, int64_t begin, const c10::Storage& from, int64_t from_begin, int64_t bytes) {
  if (bytes > 0) upload(to, begin, from, from_begin, bytes, runtime::current_stream(to->device()));
}

}  // namespace blackwell_compat::fallback
