// Scratch memory of each thread.
#include "common/cpu.h"

#include <array>

namespace blackwell_compat {

float* scratch(Scratch slot, size_t bytes) {
  thread_local std::array<at::Tensor, kScratchSlots> buffers;
  at::Tensor& buffer = buffers.at(slot);
  if (!buffer.defined() || buffer.nbytes() < bytes) {
    const auto count = static_cast<int64_t>((bytes + 4095) / 4096 * 1024);
    buffer = at::detail::empty_cpu({count}, at::kFloat, false);
  }
  return static_cast<float*>(buffer.data_ptr());
}

}  // namespace blackwell_compat
