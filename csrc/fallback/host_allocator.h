// Where CPU kernels put their results: in page-locked memory while the fallback runs them, so that the upload need not wait.
#pragma once
#include <c10/core/Device.h>
#include <c10/core/Storage.h>

#include <optional>

namespace blackwell_compat::fallback {

// Puts an allocator before PyTorch's for the CPU, which does as that one does but in threads inside an InPinnedMemory.
void add_host_allocator();
void remove_host_allocator();

// What this thread allocates on the CPU, for a scope, is page-locked, or pageable for no device.
class InPinnedMemory {
 public:
  explicit InPinnedMemory(std::optional<c10::Device> device);
  ~InPinnedMemory();
  InPinnedMemory(const InPinnedMemory&) = delete;
  InPinnedMemory& operator=(const InPinnedMemory&) = delete;

 private:
  const std::optional<c10::Device> outer_;
};

// A resizable storage of the host; page-locked if it is to be uploaded to `device`.
c10::Storage host_storage(int64_t bytes, std::optional<c10::Device> device);

}  // namespace blackwell_compat::fallback
