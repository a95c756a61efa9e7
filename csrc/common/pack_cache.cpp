// The cache of packed weights: weak references to storages, versions, and a fingerprint of the values.
#include "common/pack_cache.h"

#include <c10/core/StorageImpl.h>
#include <c10/util/intrusive_ptr.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "common/give_back.h"
#include "common/physical_memory.h"

namespace blackwell_compat {
namespace {

constexpr int kSamples = 16;
constexpr int kChangesUntilVolatile = 2;

struct Layout {
  const void* data;
  c10::SmallVector<int64_t, 6> sizes_and_strides;
  PackKind kind;

  Layout(const at::Tensor& weight, const PackKind& kind) : data(weight.data_ptr()), kind(kind) {
    sizes_and_strides.append(weight.sizes().begin(), weight.sizes().end());
    sizes_and_strides.append(weight.strides().begin(), weight.strides().end());
    sizes_and_strides.push_back(static_cast<int64_t>(weight.scalar_type()));
  }
  bool operator==(const Layout& other) const {
    return data == other.data && kind == other.kind && sizes_and_strides == other.sizes_and_strides;
  }
};

using Fingerprint = std::array<uint64_t, kSamples>;

Fingerprint fingerprint(const at::Tensor& weight) {
  Fingerprint values{};
  const auto size = weight.element_size();
  const auto* base = static_cast<const char*>(weight.data_ptr());
  const int64_t last = weight.numel() - 1;
  for (int i = 0; i < kSamples; ++i) {
    int64_t index = last * i / (kSamples - 1), offset = 0;
    for (int64_t d = weight.dim() - 1; d >= 0; --d) {
      offset += index % weight.size(d) * weight.stride(d);
      index /= weight.size(d);
    }
    std::memcpy(&values[i], base + offset * size, size);
  }
  return values;
}

struct Entry {
  Layout layout;
  uint32_t version;
  Fingerprint values;
  std::shared_ptr<const Packed> packed;  // null: there was no room for it
  size_t nbytes;                         // that it takes, or would take

  size_t taken() const { return packed ? nbytes : 0; }
};

struct StorageEntry {
  c10::weak_intrusive_ptr<c10::StorageImpl> storage;  // holds the address: it is not used again while this lives
  std::vector<Entry> entries;
  uint32_t writes = 0;        // that note_write told of; counts as a part of the version
  int changes = 0;            // how often the values were new
  uint32_t last_version = 0;  // of the last call on a volatile weight
};

class PackCache {
  // The lock. Weak references go after it: storages may be Python's, whose lock comes before this one.
  struct Locked {
    explicit Locked(PackCache& cache) : lock(cache.mutex_) {}
    std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> dead;
    std::lock_guard<std::mutex> lock;
  };

 public:
  std::shared_ptr<const Packed> get(const at::Tensor& weight, const PackKind& kind, const std::function<Packed()>& make) {
    const Layout layout(weight, kind);
    uint32_t version = version_of(weight);
    const Fingerprint values = fingerprint(weight);  // which tell of writes that no version counts
    auto* key = weight.storage().unsafeGetStorageImpl();
    {
      Locked locked(*this);
      StorageEntry* storage = find(key);
      if (storage != nullptr) {
        version += storage->writes;
        for (auto entry = storage->entries.begin(); entry != storage->entries.end(); ++entry) {
          if (!(entry->layout == layout)) continue;
          if (entry->version == version && entry->values == values) {
            if (entry->packed) {
              ++stats_.reused;
              return entry->packed;
            }
            if (!has_room(entry->nbytes, locked)) return refuse();
            storage->entries.erase(entry);
            break;
          }
          stats_.bytes -= entry->taken();
          storage->entries.erase(entry);
          ++storage->changes;
          storage->last_version = version;
          if (storage->changes >= kChangesUntilVolatile) return refuse();
          break;
        }
        // A weight that keeps changing is packed again only once a version was met twice
        if (storage->changes >= kChangesUntilVolatile && storage->last_version != version) {
          storage->last_version = version;
          return refuse();
        }
      }
      if (!has_room(weight.nbytes(), locked)) return refuse();  // what is packed is hardly ever smaller
    }
    auto packed = std::make_shared<const Packed>(make());
    give_back(packed->nbytes());  // about what packing took besides
    Locked locked(*this);
    StorageEntry* storage = find(key);
    if (storage == nullptr) {
      storage = &storages_.emplace(key, StorageEntry{weight.storage().getWeakStorageImpl(), {}, 0, 0, 0}).first->second;
    }
    for (const Entry& entry : storage->entries) {  // another thread was faster
      if (entry.layout == layout && entry.version == version && entry.values == values) return entry.packed;
    }
    const size_t nbytes = packed->nbytes();
    if (!has_room(nbytes, locked)) {
      storage->entries.push_back({layout, version, values, nullptr, nbytes});
      return refuse();
    }
    ++stats_.made;
    stats_.bytes += nbytes;
    storage->entries.push_back({layout, version, values, packed, nbytes});
    return packed;
  }

  void note_write(const c10::StorageImpl* storage) {
    const Locked locked(*this);
    if (StorageEntry* known = find(const_cast<c10::StorageImpl*>(storage))) ++known->writes;
  }

  PackStats stats() {
    Locked locked(*this);
    sweep(locked);
    PackStats result = stats_;
    for (const auto& [key, storage] : storages_) {
      result.entries += std::count_if(storage.entries.begin(), storage.entries.end(), [](const Entry& e) { return !!e.packed; });
    }
    return result;
  }

  void clear() {
    std::unordered_map<c10::StorageImpl*, StorageEntry> gone;
    const Locked locked(*this);
    gone.swap(storages_);
    stats_.bytes = 0;
  }

 private:
  std::shared_ptr<const Packed> refuse() {
    ++stats_.refused;
    return nullptr;
  }

  StorageEntry* find(c10::StorageImpl* key) {
    const auto found = storages_.find(key);
    if (found == storages_.end()) return nullptr;
    return &found->second;
  }

  bool has_room(size_t nbytes, Locked& locked) {
    sweep(locked);
    return stats_.bytes + nbytes <= stats_.capacity;
  }

  // Forgets the weights that are gone, until none is: with a weight goes its cast, which is one itself.
  void sweep(Locked& locked) {
    for (bool found = true; found;) {
      found = false;
      for (auto it = storages_.begin(); it != storages_.end();) {
        if (!it->second.storage.expired()) {
          ++it;
          continue;
        }
        for (const Entry& entry : it->second.entries) stats_.bytes -= entry.taken();
        locked.dead.push_back(std::move(it->second.storage));
        it = storages_.erase(it);
        found = true;
      }
    }
  }

  static size_t capacity() {
    if (const char* text = std::getenv("BLACKWELL_COMPAT_PACK_BYTES")) return std::strtoull(text, nullptr, 10);
    return static_cast<size_t>(physical_memory() / 2);
  }

  std::mutex mutex_;
  std::unordered_map<c10::StorageImpl*, StorageEntry> storages_;
  PackStats stats_{0, 0, capacity(), 0, 0, 0};
};

PackCache& cache() {
  static auto* instance = new PackCache;  // never destroyed: threads may still run at exit
  return *instance;
}

}  // namespace

std::shared_ptr<const Packed> packed_weight(const at::Tensor& weight, const PackKind& kind, const std::function<Packed()>& make) {
  return cache().get(weight, kind, make);
}

at::Tensor kept_cast(const at::Tensor& weight, at::ScalarType dtype) {
  const auto kept =
      packed_weight(weight, {'a', static_cast<int64_t>(dtype), 0, 0}, [&] { return Packed{{weight.to(dtype)}, nullptr}; });
  return kept ? kept->parts[0] : at::Tensor();
}

void note_write(const c10::StorageImpl* storage) { cache().note_write(storage); }
PackStats pack_stats() { return cache().stats(); }
void clear_packs() { cache().clear(); }

}  // namespace blackwell_compat
