// A table by address, the least recently used last. The weak references keep addresses from being used again. Uploads are given
// to their streams under the lock, so that no thread finds a shadow level with its storage before its upload is on the way.
#include "fallback/shadow.h"

#include <algorithm>
#include <atomic>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/physical_memory.h"
#include "fallback/counters.h"
#include "fallback/storage_set.h"
#include "fallback/transfer.h"
#include "runtime/event.h"

namespace blackwell_compat::fallback {
namespace {

struct Shadow {
  c10::StorageImpl* device;
  WeakStorage alive;
  c10::Storage host;
  int64_t bytes;
  int64_t ahead_begin, ahead_end;         // bytes
  std::optional<runtime::Stream> stream;  // of the last lazy write
};

thread_local int64_t lazy_calls = 0;  // in progress

class Table {
  using Shadows = std::list<Shadow>;
  using Place = Shadows::iterator;

  // The lock. What goes while it is held is freed after it: storages may be Python's, whose lock comes before this one.
  struct Locked {
    explicit Locked(Table& table) : lock(table.mutex_) {}
    Shadows gone;
    std::vector<c10::intrusive_ptr<c10::StorageImpl>> held;
    std::vector<WeakStorage> dead;
    std::lock_guard<std::mutex> lock;
  };

 public:
  c10::Storage find(c10::StorageImpl* device) {
    Locked locked(*this);
    sweep_front(locked);
    const auto found = places_.find(device);
    if (found == places_.end()) return {};
    if (found->second->bytes != static_cast<int64_t>(device->nbytes())) {  // resized behind our back
      erase(found->second, locked);
      return {};
    }
    shadows_.splice(shadows_.begin(), shadows_, found->second);
    return found->second->host;
  }

  void keep(c10::StorageImpl* device, const c10::Storage& host) {
    Locked locked(*this);
    const auto found = places_.find(device);
    if (found != places_.end()) erase(found->second, locked);
    keep(device, host, locked);
  }

  c10::Storage share(c10::StorageImpl* device, const c10::Storage& host, int64_t writes) {
    Locked locked(*this);
    const auto found = places_.find(device);
    if (found != places_.end()) return found->second->host;
    return writes == writes_ && keep(device, host, locked) ? host : c10::Storage();
  }

  int64_t writes() const { return writes_; }

  void drop(c10::StorageImpl* device) {
    Locked locked(*this);
    const auto found = places_.find(device);
    if (found != places_.end()) erase(found->second, locked);
  }

  void never(c10::StorageImpl* device) {
    Locked locked(*this);
    const auto found = places_.find(device);
    if (found != places_.end()) {
      upload(*found->second, locked);
      erase(found->second, locked);
    }
    never_.add(device);
  }

  void drop_all() {
    Locked locked(*this);
    while (!shadows_.empty()) erase(shadows_.begin(), locked);
  }

  void set_limit(int64_t bytes) {
    Locked locked(*this);
    sweep(locked);
    shrink(bytes, locked);
    limit_ = bytes;
  }

  int64_t limit() {
    const Locked locked(*this);
    return limit_;
  }

  int64_t bytes() {
    Locked locked(*this);
    sweep(locked);
    return bytes_;
  }

  void set_lazy(bool lazy) {
    Locked locked(*this);
    if (!lazy) upload_all(locked);
    lazy_ = lazy;
  }

  bool is_lazy() const { return lazy_calls > 0 || lazy_.load(std::memory_order_relaxed); }

  bool defer(c10::StorageImpl* device, const c10::Storage& host, int64_t begin, int64_t end) {
    if (!is_lazy()) return false;
    const runtime::Stream stream = runtime::current_stream(device->device());
    Locked locked(*this);
    const auto found = places_.find(device);
    if (!is_lazy() || found == places_.end() || found->second->host.unsafeGetStorageImpl() != host.unsafeGetStorageImpl() ||
        exposed_.has(device)) {
      return false;
    }
    Shadow& shadow = *found->second;
    if (shadow.stream && *shadow.stream != stream) {
      upload(shadow, locked);
      runtime::Event(device->device(), *shadow.stream).hold(stream);
    }
    shadow.stream = stream;
    if (shadow.ahead_end == 0) {
      ++ahead_;
      shadow.ahead_begin = begin;
    }
    put_ahead(shadow, begin, end);
    return true;
  }

  void half_written(c10::StorageImpl* device, int64_t begin, int64_t end) {
    Locked locked(*this);
    const auto found = places_.find(device);
    if (found == places_.end()) return;
    if (found->second->ahead_end > 0) {
      put_ahead(*found->second, begin, end);
    } else {
      erase(found->second, locked);
    }
  }

  bool any_ahead() const { return ahead_ > 0; }

  bool is_ahead(c10::StorageImpl* device) {
    if (ahead_ == 0) return false;
    const Locked locked(*this);
    const auto found = places_.find(device);
    return found != places_.end() && found->second->ahead_end > 0;
  }

  void flush(c10::StorageImpl* device) {
    if (ahead_ == 0) return;
    Locked locked(*this);
    const auto found = places_.find(device);
    if (found != places_.end()) upload(*found->second, locked);
  }

  void flush_all() {
    if (ahead_ == 0) return;
    Locked locked(*this);
    upload_all(locked);
  }

  void expose(c10::StorageImpl* device) {
    Locked locked(*this);
    const auto found = places_.find(device);
    if (found != places_.end()) upload(*found->second, locked);
    sweep_if_due(locked);
    exposed_.add(device);
  }

  void begin_writing(c10::StorageImpl* device, int64_t begin, int64_t end, const c10::Storage& host) {
    Locked locked(*this);
    const auto found = places_.find(device);
    if (found != places_.end() && found->second->host.unsafeGetStorageImpl() != host.unsafeGetStorageImpl()) {
      Shadow& shadow = *found->second;
      const int64_t ahead_begin = shadow.ahead_begin, ahead_end = shadow.ahead_end;
      upload(shadow, ahead_begin, std::min(ahead_end, begin), locked);
      upload(shadow, std::max(ahead_begin, end), ahead_end, locked);
      erase(found->second, locked);
    }
    if (!owns_memory(*device)) forget_aliases(*device, locked);
    written_.push_back(device);
  }

  void end_writing(c10::StorageImpl* device) {
    const Locked locked(*this);
    written_.erase(std::find(written_.begin(), written_.end(), device));
    if (places_.count(device) == 0) ++writes_;
  }

 private:
  static constexpr int64_t kSweep = 8 << 20;  // bytes of growth after which all shadows of freed storages go
  static constexpr int kFront = 8;            // shadows that are looked at for each argument
  static constexpr int64_t kEntry = 1 << 10;  // bytes that an entry counts for besides, so that tiny ones do not pile up

  bool keep(c10::StorageImpl* device, const c10::Storage& host, Locked& locked) {
    const auto bytes = static_cast<int64_t>(device->nbytes());
    sweep_if_due(locked);
    if (bytes > limit_ || never_.has(device) || !owns_memory(*device)) return false;
    if (std::find(written_.begin(), written_.end(), device) != written_.end()) return false;
    shrink(limit_ - bytes, locked);
    shadows_.push_front({device, weak(device), host, bytes, 0, 0, {}});
    places_[device] = shadows_.begin();
    bytes_ += bytes;
    return true;
  }

  // What the last ops used and nobody wants now is freed before this op allocates, as on the CPU, while it is in the caches.
  void sweep_front(Locked& locked) {
    auto place = shadows_.begin();
    for (int i = 0; i < kFront && place != shadows_.end(); ++i) {
      const auto here = place++;
      if (here->alive.expired()) erase(here, locked);
    }
  }

  // One over memory of other code has no shadow: the memory may be another storage's (DLPack, __cuda_array_interface__).
  static bool owns_memory(const c10::StorageImpl& storage) { return storage.allocator() != nullptr; }

  // The shadows of storages whose memory `written` stands on; their addresses were asked for.
  void forget_aliases(const c10::StorageImpl& written, Locked& locked) {
    const char* const begin = address(&written);
    for (const auto& [device, alive] : exposed_) {
      const auto found = places_.find(device);
      if (found == places_.end()) continue;
      auto storage = alive.lock();
      if (!storage) continue;
      const char* const other = address(storage.get());
      if (other < begin + written.nbytes() && begin < other + storage->nbytes()) {
        upload(*found->second, locked);
        erase(found->second, locked);
      }
      locked.held.push_back(std::move(storage));
    }
  }

  void erase(Place place, Locked& locked) {
    level(*place);
    bytes_ -= place->bytes;
    places_.erase(place->device);
    locked.gone.splice(locked.gone.end(), shadows_, place);
  }

  void shrink(int64_t most, Locked& locked) {
    while (bytes_ > most) {
      upload(shadows_.back(), locked);
      erase(std::prev(shadows_.end()), locked);
    }
  }

  void sweep(Locked& locked) {
    for (auto place = shadows_.begin(); place != shadows_.end();) {
      const auto here = place++;
      if (here->alive.expired()) erase(here, locked);
    }
    exposed_.sweep(locked.dead);
    never_.sweep(locked.dead);
    size_when_swept_ = size();
    new_since_sweep_ = 0;
  }

  // When the table has grown, or has taken as many new entries as it holds: each of them pays for one look.
  void sweep_if_due(Locked& locked) {
    if (++new_since_sweep_ > entries() || size() > size_when_swept_ + kSweep) sweep(locked);
  }

  // Not shadows_.size(): lists of the ABI of older wheels count their elements each time.
  size_t entries() const { return places_.size() + exposed_.size() + never_.size(); }

  int64_t size() const { return bytes_ + kEntry * static_cast<int64_t>(entries()); }

  static void put_ahead(Shadow& shadow, int64_t begin, int64_t end) {
    shadow.ahead_begin = std::min(shadow.ahead_begin, begin);
    shadow.ahead_end = std::max(shadow.ahead_end, end);
  }

  void level(Shadow& shadow) {
    if (shadow.ahead_end > 0) --ahead_;
    shadow.ahead_begin = shadow.ahead_end = 0;
  }

  void upload(Shadow& shadow, Locked& locked) {
    if (shadow.ahead_end == 0) return;
    upload(shadow, shadow.ahead_begin, shadow.ahead_end, locked);
    level(shadow);
  }

  void upload(Shadow& shadow, int64_t begin, int64_t end, Locked& locked) {
    if (end <= begin) return;
    auto device = shadow.alive.lock();
    if (!device) return;
    const runtime::Stream then = shadow.stream.value(), now = runtime::current_stream(device->device());
    fallback::upload(shadow.device, begin, shadow.host, begin, end - begin, then);
    if (now != then) runtime::Event(device->device(), then).hold(now);
    locked.held.push_back(std::move(device));
  }

  void upload_all(Locked& locked) {
    for (Shadow& shadow : shadows_) upload(shadow, locked);
  }

  std::mutex mutex_;
  Shadows shadows_;
  std::unordered_map<c10::StorageImpl*, Place> places_;
  StorageSet never_, exposed_;
  std::vector<c10::StorageImpl*> written_;  // right now
  int64_t bytes_ = 0, limit_ = physical_memory() / 4, size_when_swept_ = 0;
  size_t new_since_sweep_ = 0;
  std::atomic<bool> lazy_ = false;
  std::atomic<int64_t> ahead_ = 0;   // shadows that are ahead; written under the lock
  std::atomic<int64_t> writes_ = 0;  // to cards, of which their shadows knew nothing; written under the lock
};

// Never destroyed: tensors may outlive static objects
Table& table() {
  static Table* const made = new Table;
  return *made;
}

// Uploads outside of an op have a line of their own in the report.
template <typename F>
void counted(const F& function) {
  static const std::string name = "lazy upload";
  if (is_counting() || !table().any_ahead()) return function();
  const Counting counting(name);
  function();
}

}  // namespace

c10::Storage find_shadow(c10::StorageImpl* device) { return table().find(device); }
void keep_shadow(c10::StorageImpl* device, const c10::Storage& host) { table().keep(device, host); }
int64_t writes_past_shadows() { return table().writes(); }
c10::Storage share_shadow(c10::StorageImpl* device, const c10::Storage& host, int64_t writes) {
  return table().share(device, host, writes);
}
void drop_shadow(c10::StorageImpl* device) { table().drop(device); }
void drop_shadows() { table().drop_all(); }
int64_t shadow_limit() { return table().limit(); }
int64_t shadow_bytes() { return table().bytes(); }
bool is_lazy() { return table().is_lazy(); }
bool is_ahead(c10::StorageImpl* device) { return table().is_ahead(device); }

void half_written(c10::StorageImpl* device, int64_t begin, int64_t end) { table().half_written(device, begin, end); }

bool defer_upload(c10::StorageImpl* device, const c10::Storage& host, int64_t begin, int64_t end) {
  const CardWrite later(*device);
  return table().defer(device, host, begin, end);
}

void never_shadow(c10::StorageImpl* device) {
  counted([&] { table().never(device); });
  keep_no_card_pack(device);
}
void set_shadow_limit(int64_t bytes) {
  counted([&] { table().set_limit(bytes); });
}
void set_lazy(bool lazy) {
  counted([&] { table().set_lazy(lazy); });
}
bool in_lazy_call() { return lazy_calls > 0; }
void begin_lazy_call() { ++lazy_calls; }
void end_lazy_call() {
  if (--lazy_calls == 0 && !is_lazy()) flush_all();
}
void flush(c10::StorageImpl* device) {
  counted([&] { table().flush(device); });
}
void flush_all() {
  counted([&] { table().flush_all(); });
}
void expose(c10::StorageImpl* device) {
  counted([&] { table().expose(device); });
  keep_no_card_pack(device);
}

Writing::Writing(c10::StorageImpl* device, int64_t begin, int64_t end, const c10::Storage& host)
    : device_(device), noted_(*device) {
  counted([&] { table().begin_writing(device, begin, end, host); });
}
Writing::~Writing() { table().end_writing(device_); }

}  // namespace blackwell_compat::fallback
