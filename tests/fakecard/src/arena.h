// The address ranges behind the cards' memory; for memory.cpp and memory_map.cpp.
#pragma once
#include <map>
#include <mutex>
#include <vector>

#include "memory.h"

namespace fakecard {

inline size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Free and used pieces of an address range, merged again when they are given back
class Pieces {
 public:
  void add(size_t offset, size_t bytes) { free_[offset] = bytes; }
  bool take(size_t bytes, size_t* offset) {
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->second < bytes) continue;
      *offset = it->first;
      const size_t left = it->second - bytes;
      free_.erase(it);
      if (left) free_[*offset + bytes] = left;
      used_[*offset] = bytes;
      used_bytes_ += bytes;
      return true;
    }
    return false;
  }
  size_t give_back(size_t offset) {  // its size, 0 if there is no such piece
    const auto it = used_.find(offset);
    if (it == used_.end()) return 0;
    const size_t bytes = it->second;
    used_.erase(it);
    used_bytes_ -= bytes;
    auto next = free_.emplace(offset, bytes).first;
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == next->first) {
        before->second += next->second;
        free_.erase(next);
        next = before;
      }
    }
    const auto after = std::next(next);
    if (after != free_.end() && next->first + next->second == after->first) {
      next->second += after->second;
      free_.erase(after);
    }
    return bytes;
  }
  // The used piece that holds `offset`
  bool find(size_t offset, size_t* begin, size_t* bytes) const {
    auto it = used_.upper_bound(offset);
    if (it == used_.begin()) return false;
    --it;
    if (offset >= it->first + it->second) return false;
    *begin = it->first;
    *bytes = it->second;
    return true;
  }
  size_t used_bytes() const { return used_bytes_; }

 private:
  std::map<size_t, size_t> free_, used_;
  size_t used_bytes_ = 0;
};

struct Region {
  size_t begin, bytes;  // within the arena and the file
  Pieces pieces;
};
struct Pinned {
  size_t bytes;
  int device;
  bool registered;  // memory of the program, not ours
};
struct Chunk {
  int device;
  size_t offset, bytes;
  bool mapped, released;
};
struct Mapping {
  size_t bytes;
  uint64_t handle;
};

struct Arena {
  std::mutex lock;
  char* base = nullptr;
  ptrdiff_t distance = 0;  // from an address of a card to its twin
  size_t bytes = 0;
  int file = -1;
  std::vector<Region> regions;
  size_t reserve_begin = 0;
  Pieces reserve;
  std::map<size_t, Mapping> mappings;  // by offset in the arena
  std::map<uint64_t, Chunk> chunks;
  uint64_t next_chunk = 1;
  std::map<char*, Pinned> pinned;
};

Arena& arena();
void* map_or_die(void* at, size_t bytes, int protection, int flags, int file, size_t offset);
// The lock is held
bool take(Arena& arena, int device, size_t bytes, size_t* offset);
void drop_pages(Arena& arena, size_t offset, size_t bytes);  // they read as zero, and take no memory any more

}  // namespace fakecard
