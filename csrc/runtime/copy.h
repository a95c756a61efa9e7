// Bytes between the host and a card, on PyTorch's current stream of the card unless another is given.
#pragma once
#include <c10/core/Device.h>

#include <cstddef>

#include "runtime/driver.h"

namespace blackwell_compat::runtime {

// In the order of `stream`. `from` may be changed or freed when this returns, where it is not pinned.
void copy_to_device(void* to, const void* from, size_t bytes, c10::Device device, Stream stream);

// Waits until the bytes are there.
void copy_to_host(void* to, const void* from, size_t bytes, c10::Device device);

// To a pinned host buffer, without waiting.
void copy_to_pinned(void* to, const void* from, size_t bytes, c10::Device device);

// Between or within cards, in the order of the current streams of both.
void copy_between(void* to, c10::Device to_device, const void* from, c10::Device from_device, size_t bytes);

// In the order of the current stream.
void clear(void* to, size_t bytes, c10::Device device);

void synchronize(c10::Device device);

// Whether a CUDA graph records what goes to the current stream.
bool is_capturing(c10::Device device);

}  // namespace blackwell_compat::runtime
