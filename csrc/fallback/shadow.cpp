// A table by address, the least recently used last. The weak reference keeps an address from being used again.
#include "fallback/shadow.h"

#include <unistd.h>

#include <list>
#include <mutex>
#include <unordered_map>

namespace blackwell_compat::fallback {
namespace {

struct Shadow {
  c10::StorageImpl* device;
  c10::weak_intrusive_ptr<c10::StorageImpl> alive;
  c10::Storage host;
  int64_t bytes;
};

int64_t quarter_of_memory() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) / 4 * static_cast<int64_t>(sysconf(_SC_PAGE_SIZE));
}

class Table {
 public:
  c10::Storage find(c10::StorageImpl* device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = places_.find(device);
    if (found == places_.end()) return {};
    if (found->second->bytes != static_cast<int64_t>(device->nbytes())) {  // resized behind our back
      erase(found->second);
      return {};
    }
    shadows_.splice(shadows_.begin(), shadows_, found->second);
    return found->second->host;
  }

  void keep(c10::StorageImpl* device, const c10::Storage& host) {
    const auto bytes = static_cast<int64_t>(device->nbytes());
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = places_.find(device);
    if (found != places_.end()) erase(found->second);
    made_since_sweep_ += bytes;
    if (made_since_sweep_ > kSweep) sweep();
    if (bytes > limit_ || never_.count(device) > 0) return;
    while (bytes_ + bytes > limit_) erase(std::prev(shadows_.end()));
    shadows_.push_front({device, weak(device), host, bytes});
    places_[device] = shadows_.begin();
    bytes_ += bytes;
  }

  void drop(c10::StorageImpl* device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = places_.find(device);
    if (found != places_.end()) erase(found->second);
  }

  void never(c10::StorageImpl* device) {
    drop(device);
    const std::lock_guard<std::mutex> lock(mutex_);
    never_.try_emplace(device, weak(device));
  }

  void drop_all() {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (!shadows_.empty()) erase(shadows_.begin());
  }

  void set_limit(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    limit_ = bytes;
    while (bytes_ > limit_) erase(std::prev(shadows_.end()));
  }

  int64_t limit() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return limit_;
  }

  int64_t bytes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    sweep();
    return bytes_;
  }

 private:
  using Place = std::list<Shadow>::iterator;
  using Weak = c10::weak_intrusive_ptr<c10::StorageImpl>;
  static constexpr int64_t kSweep = 8 << 20;  // bytes of new shadows after which those of freed storages are freed

  static Weak weak(c10::StorageImpl* device) {
    return Weak(c10::intrusive_ptr<c10::StorageImpl>::unsafe_reclaim_from_nonowning(device));
  }

  void erase(Place place) {
    bytes_ -= place->bytes;
    places_.erase(place->device);
    shadows_.erase(place);
  }

  void sweep() {
    made_since_sweep_ = 0;
    for (auto place = shadows_.begin(); place != shadows_.end();) {
      const auto here = place++;
      if (here->alive.expired()) erase(here);
    }
    for (auto entry = never_.begin(); entry != never_.end();) {
      entry = entry->second.expired() ? never_.erase(entry) : std::next(entry);
    }
  }

  std::mutex mutex_;
  std::list<Shadow> shadows_;
  std::unordered_map<c10::StorageImpl*, Place> places_;
  std::unordered_map<c10::StorageImpl*, Weak> never_;
  int64_t bytes_ = 0, limit_ = quarter_of_memory(), made_since_sweep_ = 0;
};

// Never destroyed: tensors may outlive static objects
Table& table() {
  static Table* const made = new Table;
  return *made;
}

}  // namespace

c10::Storage find_shadow(c10::StorageImpl* device) { return table().find(device); }
void keep_shadow(c10::StorageImpl* device, const c10::Storage& host) { table().keep(device, host); }
void drop_shadow(c10::StorageImpl* device) { table().drop(device); }
void never_shadow(c10::StorageImpl* device) { table().never(device); }
void drop_shadows() { table().drop_all(); }
void set_shadow_limit(int64_t bytes) { table().set_limit(bytes); }
int64_t shadow_limit() { return table().limit(); }
int64_t shadow_bytes() { return table().bytes(); }

}  // namespace blackwell_compat::fallback
