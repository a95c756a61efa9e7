// Segments: memory without an address, and addresses without memory, brought together page by page.
#include <sys/mman.h>

#include "arena.h"

namespace fakecard {
namespace {

// The memory goes when the handle was released and nothing maps it any more
void forget_if_unused(Arena& a, uint64_t handle) {
  const Chunk& chunk = a.chunks.at(handle);
  if (chunk.mapped || !chunk.released) return;
  a.regions[static_cast<size_t>(chunk.device)].pieces.give_back(chunk.offset);
  drop_pages(a, chunk.offset, chunk.bytes);
  a.chunks.erase(handle);
  count(kFree);
}
}  // namespace

Error create_chunk(int device, size_t bytes, uint64_t* handle) {
  if (!bytes || bytes % kLargePage) return kInvalidValue;
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  size_t offset;
  if (!take(a, device, bytes, &offset)) return kOutOfMemory;
  *handle = a.next_chunk++;
  a.chunks[*handle] = {device, offset, bytes, false, false};
  count(kAllocation);
  return kSuccess;
}

Error release_chunk(uint64_t handle) {
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  const auto it = a.chunks.find(handle);
  if (it == a.chunks.end() || it->second.released) return kInvalidValue;
  it->second.released = true;
  forget_if_unused(a, handle);
  return kSuccess;
}

Error reserve_addresses(size_t bytes, void** pointer) {
  if (!bytes || bytes % kLargePage) return kInvalidValue;
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  size_t offset;
  if (!a.reserve.take(bytes, &offset)) return kOutOfMemory;
  *pointer = a.base + offset;
  return kSuccess;
}

Error free_addresses(void* pointer, size_t bytes) {
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  const size_t offset = static_cast<size_t>(static_cast<char*>(pointer) - a.base);
  const auto mapped = a.mappings.lower_bound(offset);
  if (mapped != a.mappings.end() && mapped->first < offset + bytes) return kInvalidValue;
  return a.reserve.give_back(offset) ? kSuccess : kInvalidValue;
}

Error map_chunk(void* pointer, size_t bytes, size_t offset, uint64_t handle) {
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  const auto chunk = a.chunks.find(handle);
  const size_t at = static_cast<size_t>(static_cast<char*>(pointer) - a.base);
  size_t begin, reserved;
  if (chunk == a.chunks.end() || offset || bytes != chunk->second.bytes || chunk->second.mapped ||
      !a.reserve.find(at, &begin, &reserved) || at + bytes > begin + reserved)
    return kInvalidValue;
  const auto overlap = a.mappings.lower_bound(at);
  if (overlap != a.mappings.end() && overlap->first < at + bytes) return kInvalidValue;
  map_or_die(a.base + at + a.distance, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, a.file,
             chunk->second.offset);
  a.mappings[at] = {bytes, handle};
  chunk->second.mapped = true;
  return kSuccess;
}

Error unmap_chunk(void* pointer, size_t bytes) {
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  const size_t begin = static_cast<size_t>(static_cast<char*>(pointer) - a.base);
  for (size_t at = begin; at < begin + bytes;) {  // whole mappings only, as the driver wants it
    const auto it = a.mappings.find(at);
    if (it == a.mappings.end() || at + it->second.bytes > begin + bytes) return kInvalidValue;
    at += it->second.bytes;
    map_or_die(a.base + it->first + a.distance, it->second.bytes, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    const uint64_t handle = it->second.handle;
    a.mappings.erase(it);
    a.chunks.at(handle).mapped = false;
    forget_if_unused(a, handle);
  }
  return kSuccess;
}

}  // namespace fakecard
