// One copy for each host storage, the least recently used last; together at most as large as shadows may be.
#include "fallback/widened.h"

#include <ATen/ATen.h>

#include <list>
#include <mutex>
#include <unordered_map>

#include "fallback/shadow.h"

namespace blackwell_compat::fallback {
namespace {

using at::Tensor;

constexpr int64_t kSmallest = 1 << 12;  // elements; below it a conversion costs less than the table
constexpr size_t kMostEntries = 4096;

struct Entry {
  c10::StorageImpl* host;
  c10::weak_intrusive_ptr<c10::StorageImpl> alive;
  std::vector<int64_t> geometry;  // offset, dtype, sizes, strides
  Tensor copy;                    // undefined until the second time

  int64_t bytes() const { return copy.defined() ? static_cast<int64_t>(copy.nbytes()) : 0; }
};

std::vector<int64_t> geometry_of(const Tensor& t) {
  std::vector<int64_t> result{t.storage_offset(), static_cast<int64_t>(t.scalar_type())};
  result.insert(result.end(), t.sizes().begin(), t.sizes().end());
  result.insert(result.end(), t.strides().begin(), t.strides().end());
  return result;
}

class Table {
  // The lock. What goes while it is held is freed after it: storages may be Python's, whose lock comes before this one.
  struct Locked {
    explicit Locked(Table& table) : lock(table.mutex_) {}
    std::list<Entry> gone;
    std::lock_guard<std::mutex> lock;
  };

 public:
  // The copy, or an undefined tensor; `again` says whether this part was asked for before.
  Tensor find(const Tensor& t, bool& again) {
    c10::StorageImpl* host = t.storage().unsafeGetStorageImpl();
    Locked locked(*this);
    const auto found = places_.find(host);
    if (found != places_.end() && found->second->geometry == geometry_of(t)) {
      entries_.splice(entries_.begin(), entries_, found->second);
      again = true;
      return found->second->copy;
    }
    if (found != places_.end()) erase(found->second, locked);
    again = false;
    entries_.push_front({host, c10::weak_intrusive_ptr<c10::StorageImpl>(t.storage().getWeakStorageImpl()), geometry_of(t), {}});
    places_[host] = entries_.begin();
    trim(locked);
    return {};
  }

  void keep(const Tensor& t, const Tensor& copy) {
    Locked locked(*this);
    const auto found = places_.find(t.storage().unsafeGetStorageImpl());
    if (found == places_.end() || found->second->geometry != geometry_of(t)) return;
    bytes_ -= found->second->bytes();
    found->second->copy = copy;
    bytes_ += found->second->bytes();
    trim(locked);
  }

  void forget(const c10::StorageImpl* host) {
    Locked locked(*this);
    const auto found = places_.find(const_cast<c10::StorageImpl*>(host));
    if (found != places_.end()) erase(found->second, locked);
  }

  void forget_all() {
    Locked locked(*this);
    while (!entries_.empty()) erase(entries_.begin(), locked);
  }

 private:
  using Place = std::list<Entry>::iterator;

  void erase(Place place, Locked& locked) {
    bytes_ -= place->bytes();
    places_.erase(place->host);
    locked.gone.splice(locked.gone.end(), entries_, place);
  }

  void trim(Locked& locked) {
    while (!entries_.empty() && (places_.size() > kMostEntries || bytes_ > shadow_limit() || entries_.back().alive.expired())) {
      erase(std::prev(entries_.end()), locked);
    }
  }

  std::mutex mutex_;
  std::list<Entry> entries_;
  std::unordered_map<c10::StorageImpl*, Place> places_;
  int64_t bytes_ = 0;
};

// Never destroyed: tensors may outlive static objects
Table& table() {
  static Table* const made = new Table;
  return *made;
}

Tensor converted(const Tensor& t) { return t.to(t.is_complex() ? at::kComplexFloat : at::kFloat); }

}  // namespace

Tensor widened(const Tensor& host) {
  if (host.numel() < kSmallest || host.is_conj() || host.is_neg()) return converted(host);
  bool again = false;
  Tensor copy = table().find(host, again);
  if (copy.defined()) return copy;
  copy = converted(host);
  if (again) table().keep(host, copy);
  return copy;
}

void forget_widened(const c10::StorageImpl* host) { table().forget(host); }
void forget_all_widened() { table().forget_all(); }

}  // namespace blackwell_compat::fallback
