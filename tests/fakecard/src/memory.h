// The memory of the cards and the pinned memory of the host.
#pragma once
#include "core.h"

namespace fakecard {

constexpr size_t kPage = 4096, kLargePage = size_t(2) << 20;  // bytes

enum class Place { kHost, kPinned, kDevice };
struct Span {
  Place place = Place::kHost;
  int device = 0;         // of pinned memory: the one that was current when it was made
  char* begin = nullptr;  // of the whole allocation
  size_t bytes = 0;
};
// Where `pointer` lies. kInvalidValue: in a card's memory, but `bytes` from there are not inside one allocation
Error locate(const void* pointer, size_t bytes, Span* span);
// The readable and writable twin of a card's address; any other address as it is
char* alias(const void* pointer);
bool in_arena(const void* pointer);

Error allocate(int device, size_t bytes, void** pointer);
Error release(void* pointer);
size_t used_bytes(int device);
size_t total_bytes(int device);

Error pin(size_t bytes, void** pointer);
Error unpin(void* pointer);
Error register_host(void* pointer, size_t bytes);
Error unregister_host(void* pointer);

// Physical memory without an address, and addresses without memory (cuMemCreate, cuMemAddressReserve)
Error create_chunk(int device, size_t bytes, uint64_t* handle);
Error release_chunk(uint64_t handle);
Error reserve_addresses(size_t bytes, void** pointer);
Error free_addresses(void* pointer, size_t bytes);
Error map_chunk(void* pointer, size_t bytes, size_t offset, uint64_t handle);
Error unmap_chunk(void* pointer, size_t bytes);

void install_crash_report();  // memory_crash.cpp

}  // namespace fakecard
