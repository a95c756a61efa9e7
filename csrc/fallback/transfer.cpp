// What runtime/copy.h does, for storages.
#include "fallback/transfer.h"

#include <c10/core/CPUAllocator.h>

#include <cstring>
#include <utility>

#include "fallback/counters.h"
#include "runtime/copy.h"
#include "runtime/host_memory.h"

namespace blackwell_compat::fallback {
namespace {

c10::Storage storage_over(c10::DataPtr memory, int64_t bytes) {
  return {c10::Storage::use_byte_size_t(), static_cast<size_t>(bytes), std::move(memory), c10::GetCPUAllocator(), true};
}

}  // namespace

char* address(const c10::StorageImpl* storage) { return static_cast<char*>(storage->data_ptr().get()); }

c10::Storage host_storage(int64_t bytes, std::optional<c10::Device> device) {
  c10::DataPtr memory = device ? runtime::pinned_memory(bytes, *device) : c10::DataPtr();
  if (!memory) memory = c10::GetCPUAllocator()->allocate(bytes);
  return storage_over(std::move(memory), bytes);
}

c10::Storage staged(const c10::Storage& host, c10::Device device) {
  const auto bytes = static_cast<int64_t>(host.nbytes());
  c10::DataPtr memory = runtime::pinned_memory(bytes, device);
  if (!memory) return host;
  std::memcpy(memory.get(), host.data(), bytes);
  return storage_over(std::move(memory), bytes);
}

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
