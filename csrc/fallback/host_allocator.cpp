// Put there once, while no op runs; what changes from call to call is a variable of the thread.
#include "fallback/host_allocator.h"

#include <c10/core/CPUAllocator.h>

#include "runtime/host_memory.h"

namespace blackwell_compat::fallback {
namespace {

thread_local std::optional<c10::Device> upload_to;

class HostAllocator : public c10::Allocator {
 public:
  explicit HostAllocator(c10::Allocator* before) : before_(before) {}

  c10::DataPtr allocate(size_t bytes) override {
    if (upload_to) {
      if (c10::DataPtr memory = runtime::pinned_memory(bytes, *upload_to)) return memory;
    }
    return before_->allocate(bytes);
  }

  c10::DeleterFnPtr raw_deleter() const override { return before_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t bytes) const override { before_->copy_data(to, from, bytes); }

  c10::Allocator* before() const { return before_; }

 private:
  c10::Allocator* const before_;
};

// Never destroyed: storages keep the allocator that they are resized with
HostAllocator* placed = nullptr;

}  // namespace

void add_host_allocator() {
  c10::Allocator* const before = c10::GetCPUAllocator();
  if (!placed || placed->before() != before) placed = new HostAllocator(before);
  c10::SetCPUAllocator(placed);
}

void remove_host_allocator() {
  if (placed && c10::GetCPUAllocator() == placed) c10::SetCPUAllocator(placed->before());
}

InPinnedMemory::InPinnedMemory(std::optional<c10::Device> device) : outer_(upload_to) { upload_to = device; }
InPinnedMemory::~InPinnedMemory() { upload_to = outer_; }

c10::Storage host_storage(int64_t bytes, std::optional<c10::Device> device) {
  const InPinnedMemory here(device);
  return {c10::Storage::use_byte_size_t(), bytes, c10::GetCPUAllocator(), true};
}

}  // namespace blackwell_compat::fallback
