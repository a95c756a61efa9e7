// Blocks in size classes of four to an octave.
#include "runtime/host_memory.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "common/physical_memory.h"
#include "runtime/event.h"

namespace blackwell_compat::runtime {
namespace {

constexpr unsigned kPortable = 1;  // CU_MEMHOSTALLOC_PORTABLE: page-locked for all cards

struct Block {
  void* memory;
  size_t bytes;
  c10::Device device;
  std::vector<Event> readers;
};

// The driver's memory is not the child's after a fork.
std::atomic<bool> is_forked_child = false;

size_t size_class(size_t bytes) {
  size_t octave = kSmallestPinned - 1;
  while (2 * octave < bytes) octave *= 2;
  const size_t step = octave / 4;
  return (bytes + step - 1) / step * step;
}

bool idle(Block& block) {
  auto& readers = block.readers;
  readers.erase(std::remove_if(readers.begin(), readers.end(), [](const Event& e) { return e.passed(); }), readers.end());
  return readers.empty();
}

void give_back(void* block);

class Pool {
 public:
  Pool() {
    pthread_atfork(nullptr, nullptr, [] { is_forked_child = true; });
  }

  c10::DataPtr take(size_t bytes, c10::Device device) {
    const size_t wanted = size_class(bytes);
    const std::lock_guard<std::mutex> lock(mutex_);
    Block* block = find(wanted);
    if (!block) block = make(wanted, device);
    return block ? c10::DataPtr(block->memory, block, &blackwell_compat::runtime::give_back, c10::kCPU) : c10::DataPtr();
  }

  void give_back(Block* block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_[block->bytes].push_back(block);
  }

  void add_reader(Block* block, Event event) {
    const std::lock_guard<std::mutex> lock(mutex_);
    block->readers.push_back(std::move(event));
  }

  void wait(Block* block) {
    std::vector<Event> readers;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      readers = block->readers;
    }
    if (readers.empty()) return;
    for (const Event& event : readers) event.wait();
    const std::lock_guard<std::mutex> lock(mutex_);
    idle(*block);
  }

  void keep(const c10::Storage& host, Event event) {
    std::list<Kept> done;  // freed after the lock: a storage may be Python's
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = kept_.begin(); it != kept_.end();) {
      const auto here = it++;
      if (here->event.passed()) done.splice(done.end(), kept_, here);
    }
    kept_.push_back({host, std::move(event)});
  }

  void set_limit(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    limit_ = bytes;
    release(limit_);
  }

  int64_t limit() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return limit_;
  }

  int64_t bytes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return held_;
  }

  void release_unused() {
    const std::lock_guard<std::mutex> lock(mutex_);
    release(0);
  }

 private:
  struct Kept {
    c10::Storage host;
    Event event;
  };

  // A free one, less than twice as large as wanted, the last freed first: it is in the processor's caches
  Block* find(size_t wanted) {
    for (auto size = free_.lower_bound(wanted); size != free_.end() && size->first < 2 * wanted; ++size) {
      auto& blocks = size->second;
      const auto found = std::find_if(blocks.rbegin(), blocks.rend(), [](Block* block) { return idle(*block); });
      if (found == blocks.rend()) continue;
      Block* block = *found;
      blocks.erase(std::next(found).base());
      return block;
    }
    return nullptr;
  }

  Block* make(size_t bytes, c10::Device device) {
    const auto size = static_cast<int64_t>(bytes);
    if (size > limit_) return nullptr;
    if (held_ + size > limit_) release(limit_ - size);
    if (held_ + size > limit_) return nullptr;
    const UseContext use(device);
    void* memory = nullptr;
    if (driver().cuMemHostAlloc(&memory, bytes, kPortable) != 0) {
      limit_ = held_;  // the driver gives no more
      return nullptr;
    }
    held_ += size;
    return new Block{memory, bytes, device, {}};
  }

  // Frees until no more than `most` bytes are held, or none is left that nobody uses
  void release(int64_t most) {
    for (auto size = free_.begin(); size != free_.end();) {
      auto& blocks = size->second;
      const auto gone = std::remove_if(blocks.begin(), blocks.end(), [&](Block* block) {
        if (held_ <= most || !idle(*block)) return false;
        const UseContext use(block->device);
        driver().cuMemFreeHost(block->memory);
        held_ -= static_cast<int64_t>(block->bytes);
        delete block;
        return true;
      });
      blocks.erase(gone, blocks.end());
      size = blocks.empty() ? free_.erase(size) : std::next(size);
    }
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<Block*>> free_;
  std::list<Kept> kept_;
  int64_t held_ = 0, limit_ = physical_memory() / 8;
};

// Never destroyed: tensors may outlive static objects, and the driver may be gone at exit
Pool& pool() {
  static Pool* const made = new Pool;
  return *made;
}

void give_back(void* block) {
  if (!is_forked_child) pool().give_back(static_cast<Block*>(block));
}

Block* block_of(const c10::DataPtr& memory) {
  return memory.get_deleter() == &give_back && !is_forked_child ? static_cast<Block*>(memory.get_context()) : nullptr;
}

}  // namespace

c10::DataPtr pinned_memory(size_t bytes, c10::Device device) {
  return bytes < kSmallestPinned || is_forked_child ? c10::DataPtr() : pool().take(bytes, device);
}

void copy_reads(const c10::DataPtr& memory, c10::Device device, Stream stream) {
  if (Block* block = block_of(memory)) pool().add_reader(block, Event(device, stream));
}

void wait_for_copies(const c10::DataPtr& memory) {
  if (Block* block = block_of(memory)) pool().wait(block);
}

void keep_until_done(const c10::Storage& host, c10::Device device) { pool().keep(host, Event(device, current_stream(device))); }

void set_pinned_limit(int64_t bytes) { pool().set_limit(bytes); }
int64_t pinned_limit() { return pool().limit(); }
int64_t pinned_bytes() { return pool().bytes(); }
void release_unused_pinned() { pool().release_unused(); }

}  // namespace blackwell_compat::runtime
