// Storages by their addresses, which are not used again while they stand here.
#pragma once
#include <c10/core/StorageImpl.h>
#include <c10/util/intrusive_ptr.h>

#include <unordered_map>
#include <utility>
#include <vector>

namespace blackwell_compat::fallback {

using WeakStorage = c10::weak_intrusive_ptr<c10::StorageImpl>;

inline WeakStorage weak(c10::StorageImpl* storage) {
  return WeakStorage(c10::intrusive_ptr<c10::StorageImpl>::unsafe_reclaim_from_nonowning(storage));
}

class StorageSet {
 public:
  void add(c10::StorageImpl* storage) { storages_.try_emplace(storage, weak(storage)); }
  bool has(c10::StorageImpl* storage) const { return storages_.count(storage) > 0; }
  size_t size() const { return storages_.size(); }

  auto begin() const { return storages_.begin(); }
  auto end() const { return storages_.end(); }

  // Those that were freed go to `dead`.
  void sweep(std::vector<WeakStorage>& dead) {
    for (auto place = storages_.begin(); place != storages_.end();) {
      if (!place->second.expired()) {
        ++place;
        continue;
      }
      dead.push_back(std::move(place->second));
      place = storages_.erase(place);
    }
  }

 private:
  std::unordered_map<c10::StorageImpl*, WeakStorage> storages_;
};

}  // namespace blackwell_compat::fallback
