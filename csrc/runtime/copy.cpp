// Copies by the driver: they run no kernel, so they work on any card.
#include "runtime/copy.h"

#include "runtime/device_info.h"

namespace blackwell_compat::runtime {
namespace {

constexpr int kMemoryType = 2;  // CU_POINTER_ATTRIBUTE_MEMORY_TYPE

DeviceAddress address(const void* pointer) { return reinterpret_cast<DeviceAddress>(pointer); }

// Pageable memory, which a driver takes into its own before it returns, unless the card can read it where it lies, later.
bool is_read_later(const void* from, c10::Device device) {
  int type = 0;
  return device_info(device).reads_pageable_memory && driver().cuPointerGetAttribute(&type, kMemoryType, address(from)) != 0;
}

}  // namespace

void copy_to_device(void* to, const void* from, size_t bytes, c10::Device device, Stream stream) {
  if (bytes == 0) return;
  const UseContext use(device);
  BC_CU(cuMemcpyHtoDAsync(address(to), from, bytes, stream), bytes, " bytes to ", device);
  if (is_read_later(from, device)) BC_CU(cuStreamSynchronize(stream), bytes, " bytes to ", device);
}

void copy_to_host(void* to, const void* from, size_t bytes, c10::Device device) {
  if (bytes == 0) return;
  const UseContext use(device);
  const Stream stream = current_stream(device);
  BC_CU(cuMemcpyDtoHAsync(to, address(from), bytes, stream), bytes, " bytes from ", device);
  BC_CU(cuStreamSynchronize(stream), bytes, " bytes from ", device);
}

void copy_to_pinned(void* to, const void* from, size_t bytes, c10::Device device) {
  if (bytes == 0) return;
  const UseContext use(device);
  BC_CU(cuMemcpyDtoHAsync(to, address(from), bytes, current_stream(device)), bytes, " bytes from ", device);
}

void copy_between(void* to, c10::Device to_device, const void* from, c10::Device from_device, size_t bytes) {
  if (bytes == 0) return;
  const UseContext use(from_device);
  const Stream stream = current_stream(from_device);
  if (to_device == from_device) {
    BC_CU(cuMemcpyDtoDAsync(address(to), address(from), bytes, stream), bytes, " bytes on ", to_device);
    return;
  }
  synchronize(to_device);
  BC_CU(cuMemcpyPeerAsync(address(to), primary_context(to_device), address(from), primary_context(from_device), bytes, stream),
        bytes, " bytes from ", from_device, " to ", to_device);
  BC_CU(cuStreamSynchronize(stream), bytes, " bytes from ", from_device, " to ", to_device);
}

void clear(void* to, size_t bytes, c10::Device device) {
  if (bytes == 0) return;
  const UseContext use(device);
  BC_CU(cuMemsetD8Async(address(to), 0, bytes, current_stream(device)), bytes, " bytes on ", device);
}

void synchronize(c10::Device device) {
  const UseContext use(device);
  BC_CU(cuStreamSynchronize(current_stream(device)), "Waiting for ", device);
}

bool is_capturing(c10::Device device) {
  const UseContext use(device);
  int status = 0;
  BC_CU(cuStreamIsCapturing(current_stream(device), &status), "Looking at ", device);
  return status != 0;
}

}  // namespace blackwell_compat::runtime
