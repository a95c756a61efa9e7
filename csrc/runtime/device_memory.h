// What is left of a card's memory, and when PyTorch's allocator takes more of it.
#pragma once
#include <c10/core/Device.h>

#include <cstddef>
#include <optional>

namespace blackwell_compat::runtime {

struct DeviceMemory {
  size_t free, total;  // bytes
};

// None where the driver does not say.
std::optional<DeviceMemory> device_memory(c10::Device device);

// `release` is called whenever the caching allocator has no block for a request on the current card, before it asks the driver:
// under its lock, in any thread. Returns whether it freed something. Once, for the life of the process; other threads must not
// allocate meanwhile.
void before_allocator_grows(bool (*release)());

}  // namespace blackwell_compat::runtime
