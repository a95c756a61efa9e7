// One sparse file in memory, mapped twice: where a card's addresses lie it may not be touched, at a fixed distance it may. So
// only what goes through the copy engine, or an emulated kernel, reaches the bytes.
#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "arena.h"
#include "card.h"

namespace fakecard {
namespace {

constexpr size_t kReserveFactor = 4;               // addresses for cuMemAddressReserve, as a multiple of the memory
constexpr size_t kPoisonLimit = size_t(64) << 20;  // bytes; larger allocations stay sparse and zero
constexpr int kPoison = 0xCB;                      // a float of this is -2.7e7: memory that was never written shows

Arena* make_arena() {
  Arena& arena = *new Arena;
  for (const Card& card : cards()) {
    Region region{arena.bytes, round_up(card.memory, kLargePage), {}};
    region.pieces.add(region.begin, region.bytes);
    arena.bytes += region.bytes;
    arena.regions.push_back(std::move(region));
  }
  const size_t memory = arena.bytes;
  arena.reserve_begin = memory;
  arena.reserve.add(memory, memory * kReserveFactor);
  arena.bytes += memory * kReserveFactor;
  arena.file = memfd_create("fakecard", MFD_CLOEXEC);
  if (arena.file < 0 || ftruncate(arena.file, static_cast<off_t>(memory))) {
    perror("fakecard: memfd_create");
    abort();
  }
  const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, shared = MAP_SHARED | MAP_NORESERVE | MAP_FIXED;
  arena.base = static_cast<char*>(map_or_die(nullptr, arena.bytes, PROT_NONE, anonymous, -1, 0));
  char* twin = static_cast<char*>(map_or_die(nullptr, arena.bytes, PROT_NONE, anonymous, -1, 0));
  map_or_die(arena.base, memory, PROT_NONE, shared, arena.file, 0);
  map_or_die(twin, memory, PROT_READ | PROT_WRITE, shared, arena.file, 0);
  arena.distance = twin - arena.base;
  return &arena;
}

std::atomic<Arena*> the_arena{nullptr};

}  // namespace

void* map_or_die(void* at, size_t bytes, int protection, int flags, int file, size_t offset) {
  void* it = mmap(at, bytes, protection, flags, file, static_cast<off_t>(offset));
  if (it == MAP_FAILED) {
    perror("fakecard: mmap");
    abort();
  }
  return it;
}

Arena& arena() {
  static Arena* const it = [] {
    the_arena = make_arena();
    install_crash_report();
    return the_arena.load();
  }();
  return *it;
}

void drop_pages(Arena& a, size_t offset, size_t bytes) {
  fallocate(a.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(bytes));
}

bool take(Arena& a, int device, size_t bytes, size_t* offset) {
  Pieces& pieces = a.regions[static_cast<size_t>(device)].pieces;
  return pieces.used_bytes() + bytes <= total_bytes(device) && pieces.take(bytes, offset);
}

bool in_arena(const void* pointer) {
  const Arena* a = the_arena;
  return a && pointer >= a->base && pointer < a->base + a->bytes;
}

char* alias(const void* pointer) {
  char* it = static_cast<char*>(const_cast<void*>(pointer));
  return in_arena(pointer) ? it + the_arena.load()->distance : it;
}

Error locate(const void* pointer, size_t bytes, Span* span) {
  char* at = static_cast<char*>(const_cast<void*>(pointer));
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  if (!in_arena(pointer)) {
    auto it = a.pinned.upper_bound(at);
    if (it != a.pinned.begin() && (--it, at < it->first + it->second.bytes)) {
      *span = {Place::kPinned, it->second.device, it->first, it->second.bytes};
      if (at + bytes > it->first + it->second.bytes) span->place = Place::kHost;  // partly pinned: as pageable memory
    } else {
      *span = {};
    }
    return kSuccess;
  }
  const size_t offset = static_cast<size_t>(at - a.base);
  size_t begin, size;
  if (offset >= a.reserve_begin) {
    auto it = a.mappings.upper_bound(offset);
    if (it == a.mappings.begin()) return kInvalidValue;
    --it;
    // Neighbouring mappings count as one piece of memory: that is how segments grow
    size_t end = it->first + it->second.bytes;
    if (offset >= end) return kInvalidValue;
    *span = {Place::kDevice, a.chunks.at(it->second.handle).device, a.base + it->first, it->second.bytes};
    for (++it; it != a.mappings.end() && it->first == end && offset + bytes > end; ++it) end += it->second.bytes;
    return offset + bytes <= end ? kSuccess : kInvalidValue;
  }
  for (size_t device = 0; device < a.regions.size(); ++device) {
    if (!a.regions[device].pieces.find(offset, &begin, &size)) continue;
    *span = {Place::kDevice, static_cast<int>(device), a.base + begin, size};
    return offset + bytes <= begin + size ? kSuccess : kInvalidValue;
  }
  return kInvalidValue;
}

Error allocate(int device, size_t bytes, void** pointer) {
  if (!pointer) return kInvalidValue;
  *pointer = nullptr;
  if (!bytes) return kSuccess;
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  size_t offset;
  const size_t rounded = round_up(bytes, kPage);
  if (rounded < bytes || !take(a, device, rounded, &offset)) return kOutOfMemory;
  *pointer = a.base + offset;
  if (rounded <= kPoisonLimit) memset(a.base + offset + a.distance, kPoison, rounded);
  count(kAllocation);
  return kSuccess;
}

Error release(void* pointer) {
  if (!pointer) return kSuccess;
  if (!in_arena(pointer)) return kInvalidValue;
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  const size_t offset = static_cast<size_t>(static_cast<char*>(pointer) - a.base);
  for (Region& region : a.regions) {
    const size_t bytes = region.pieces.give_back(offset);
    if (!bytes) continue;
    drop_pages(a, offset, bytes);
    count(kFree);
    return kSuccess;
  }
  return kInvalidValue;
}

size_t used_bytes(int device) {
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  return a.regions[static_cast<size_t>(device)].pieces.used_bytes();
}

size_t total_bytes(int device) {
  const size_t limit = settings().memory_limit, memory = cards()[static_cast<size_t>(device)].memory;
  return limit && limit < memory ? limit : memory;
}

Error pin(size_t bytes, void** pointer) {
  if (!pointer) return kInvalidValue;
  *pointer = nullptr;
  if (!bytes) return kSuccess;
  // Its own mapping: whoever touches it after cudaFreeHost crashes
  void* it = mmap(nullptr, round_up(bytes, kPage), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (it == MAP_FAILED) return kOutOfMemory;
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  a.pinned[static_cast<char*>(it)] = {bytes, current_device(), false};
  *pointer = it;
  count(kHostAllocation);
  return kSuccess;
}

Error unpin(void* pointer) {
  if (!pointer) return kSuccess;
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  const auto it = a.pinned.find(static_cast<char*>(pointer));
  if (it == a.pinned.end() || it->second.registered) return kInvalidValue;
  munmap(pointer, round_up(it->second.bytes, kPage));
  a.pinned.erase(it);
  return kSuccess;
}

Error register_host(void* pointer, size_t bytes) {
  if (!pointer || !bytes || in_arena(pointer)) return kInvalidValue;
  char* begin = static_cast<char*>(pointer);
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  auto it = a.pinned.lower_bound(begin + bytes);
  if (it != a.pinned.begin() && (--it, begin < it->first + it->second.bytes)) return kAlreadyRegistered;
  a.pinned[begin] = {bytes, current_device(), true};
  return kSuccess;
}

Error unregister_host(void* pointer) {
  Arena& a = arena();
  const std::lock_guard<std::mutex> guard(a.lock);
  const auto it = a.pinned.find(static_cast<char*>(pointer));
  if (it == a.pinned.end() || !it->second.registered) return kNotRegistered;
  a.pinned.erase(it);
  return kSuccess;
}

}  // namespace fakecard
