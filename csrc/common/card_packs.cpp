// By storage, with weak references that keep addresses from being used again. What goes is freed after the lock: storages may be
// Python's, whose lock comes before this one, and so does that of PyTorch's allocator.
#include "common/card_packs.h"

#include <c10/core/StorageImpl.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/ceil_div.h"
#include "fallback/original.h"
#include "kernels/conv1d.cuh"
#include "runtime/copy.h"
#include "runtime/device_memory.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using Weak = c10::weak_intrusive_ptr<c10::StorageImpl>;

constexpr int kThreads = 256;
constexpr size_t kPartOfMemory = 16;  // that packs may take
constexpr size_t kPartLeft = 8;       // of a card's memory: where less is free, packs go
constexpr size_t kLeastSweep = 64;    // storages among which dead ones are worth looking for

int64_t count_of(const Conv1dPackParams& p) { return p.size[0] * p.size[1] * p.size[2] * p.size[3]; }

Tensor packed_now(const Tensor& weight, Conv1dPackParams p) {
  const Tensor packed = at::empty({count_of(p)}, weight.options());
  p.out = packed.mutable_data_ptr();
  if (packed.numel() > 0) {
    runtime::launch("compat_conv1d_pack_" + std::to_string(weight.element_size()), weight.device(),
                    {ceil_div(packed.numel(), kThreads), kThreads, 0}, &p);
  }
  return packed;
}

// Its memory is PyTorch's, and neither shared with another process nor lazily cloned.
bool owns_memory(const c10::StorageImpl& storage) {
  const c10::DataPtr& data = storage.data_ptr();
  return storage.allocator() && data.get() && data.get_context() == data.get();
}

// The number of PyTorch's current stream. None for one that other code made: when that ends, another may take its number.
std::optional<c10::StreamId> current_stream_id(c10::Device device) {
  const c10::StreamId id = c10::impl::VirtualGuardImpl(c10::kCUDA).getStream(device).id();
  return id == 0 || id % 2 != 0 ? std::optional(id) : std::nullopt;
}

struct Layout {
  Conv1dPackParams params;
  int64_t element_bytes;
  c10::StreamId stream;

  bool operator==(const Layout& other) const {
    const Conv1dPackParams &a = params, &b = other.params;
    return a.in == b.in && std::equal(a.size, a.size + 4, b.size) && std::equal(a.stride, a.stride + 4, b.stride) &&
           a.valid == b.valid && element_bytes == other.element_bytes && stream == other.stream;
  }
};

struct Pack {
  Layout layout;
  uint32_t version;
  int64_t meeting;  // the number of the call that found the weight as it is
  Tensor packed;    // undefined: not kept yet
};

struct Weight {
  explicit Weight(c10::StorageImpl* storage)
      : alive(c10::intrusive_ptr<c10::StorageImpl>::unsafe_reclaim_from_nonowning(storage)), card(storage->device().index()) {}

  bool moves_to(const c10::StorageImpl& storage) {
    const auto* const now = static_cast<const char*>(storage.data_ptr().get());
    const bool moved = begin != now || end != now + storage.nbytes();
    begin = now, end = now + storage.nbytes();
    return moved;
  }

  Weak alive;
  c10::DeviceIndex card;
  const char *begin = nullptr, *end = nullptr;
  bool never = false;
  std::vector<Pack> packs;
};

class Table {
  struct Locked {
    explicit Locked(Table& table) : lock(table.mutex_) {}
    std::vector<Pack> gone;
    std::vector<Weak> dead;
    std::lock_guard<std::mutex> lock;
  };

 public:
  Tensor get(const Tensor& weight, const Conv1dPackParams& p) {
    const c10::Device device = weight.device();
    c10::StorageImpl* const storage = weight.storage().unsafeGetStorageImpl();
    if (!on_ || fallback::runs_kernels(device) || !owns_memory(*storage) || runtime::is_capturing(device)) {
      return packed_now(weight, p);
    }
    const auto stream = current_stream_id(device);
    if (!stream) return packed_now(weight, p);
    look_at_memory(device);
    const Layout layout{p, weight.element_size(), *stream};
    int64_t meeting = 0;
    {
      Locked locked(*this);
      const Pack* const met = meet(weight, storage, layout, locked);
      if (met && met->packed.defined()) {
        ++stats_.reused;
        return met->packed;
      }
      if (met) meeting = met->meeting;
    }
    const Tensor packed = packed_now(weight, p);
    if (meeting != 0) keep(storage, meeting, packed);
    return packed;
  }

  void set_on(bool on) {
    if (on) {
      const char* const text = std::getenv("BLACKWELL_COMPAT_CARD_PACK_BYTES");
      limit_ = text ? std::optional<size_t>(std::strtoull(text, nullptr, 10)) : std::nullopt;
      for (Card& card : cards_) card.known = false;
      runtime::before_allocator_grows([] { return table().relieve(); });
    }
    Locked locked(*this);
    on_ = on;
    forget(locked, [](const Weight&) { return true; });
  }

  void note_write(const c10::StorageImpl* storage, const char* foreign_begin, const char* foreign_end) {
    if (!any_) return;
    Locked locked(*this);
    const auto known = weights_.find(const_cast<c10::StorageImpl*>(storage));
    if (known != weights_.end()) drop(known->second, locked);
    if (foreign_begin == foreign_end) return;
    for (auto& [other, weight] : weights_) {
      if (weight.begin < foreign_end && foreign_begin < weight.end) drop(weight, locked);
    }
  }

  void never(c10::StorageImpl* storage) {
    if (!on_) return;
    Locked locked(*this);
    sweep_sometimes(locked);
    Weight& weight = weights_.try_emplace(storage, storage).first->second;
    any_ = true;
    drop(weight, locked);
    weight.never = true;
  }

  void drop_all() {
    if (!any_) return;
    Locked locked(*this);
    forget(locked, [](const Weight& weight) { return !weight.never; });
  }

  PackStats stats() {
    Locked locked(*this);
    sweep(locked);
    PackStats result = stats_;
    for (const auto& [storage, weight] : weights_) {
      result.entries += std::count_if(weight.packs.begin(), weight.packs.end(), [](const Pack& p) { return p.packed.defined(); });
    }
    for (const Card& card : cards_) {
      result.bytes += card.bytes;
      if (card.known) result.capacity += card.capacity;
    }
    return result;
  }

  static Table& table() {
    static auto* const made = new Table;  // never destroyed: threads may still run at exit
    return *made;
  }

 private:
  struct Card {
    size_t bytes = 0;  // of packs
    std::atomic<size_t> capacity = 0;
    std::atomic<bool> known = false, is_short = false;
  };

  // What is known of the weight as it is now; null where nothing of it is to be kept at this call.
  Pack* meet(const Tensor& weight, c10::StorageImpl* storage, const Layout& layout, Locked& locked) {
    if (!on_) return nullptr;
    sweep_sometimes(locked);
    const auto [place, is_new] = weights_.try_emplace(storage, storage);
    any_ = true;
    Weight& known = place->second;
    if (known.moves_to(*storage)) drop(known, locked);
    if (known.never) return nullptr;
    const uint32_t version = version_of(weight);
    auto pack = std::find_if(known.packs.begin(), known.packs.end(), [&](const Pack& one) { return one.layout == layout; });
    const bool as_it_was = pack != known.packs.end() && pack->version == version;
    if (pack != known.packs.end() && !as_it_was) {
      drop(known, locked);
      pack = known.packs.end();
    }
    if (pack == known.packs.end()) {
      known.packs.push_back({layout, version, ++meetings_, {}});
      pack = std::prev(known.packs.end());
    }
    if (pack->packed.defined()) return &*pack;
    if (!as_it_was && !(is_new && weight.is_leaf() && weight.requires_grad())) return nullptr;
    if (has_room(known.card, count_of(layout.params) * layout.element_bytes)) return &*pack;
    ++stats_.refused;
    return nullptr;
  }

  // Nothing was noted since that meeting.
  void keep(c10::StorageImpl* storage, int64_t meeting, const Tensor& packed) {
    Locked locked(*this);
    const auto place = weights_.find(storage);
    if (place == weights_.end() || !has_room(place->second.card, packed.nbytes())) return;
    for (Pack& pack : place->second.packs) {
      if (pack.meeting != meeting || pack.packed.defined()) continue;
      pack.packed = packed;
      cards_[place->second.card].bytes += packed.nbytes();
      ++stats_.made;
    }
  }

  void drop(Weight& weight, Locked& locked) {
    for (Pack& pack : weight.packs) {
      if (pack.packed.defined()) cards_[weight.card].bytes -= pack.packed.nbytes();
      locked.gone.push_back(std::move(pack));
    }
    weight.packs.clear();
  }

  template <typename F>
  void forget(Locked& locked, const F& which) {
    for (auto place = weights_.begin(); place != weights_.end();) {
      if (!which(place->second)) {
        ++place;
        continue;
      }
      drop(place->second, locked);
      locked.dead.push_back(std::move(place->second.alive));
      place = weights_.erase(place);
    }
    any_ = !weights_.empty();
    swept_ = weights_.size();
  }

  void sweep(Locked& locked) {
    forget(locked, [](const Weight& weight) { return weight.alive.expired(); });
  }

  // Weights computed at each call leave one behind each time.
  void sweep_sometimes(Locked& locked) {
    if (weights_.size() >= 2 * swept_ + kLeastSweep) sweep(locked);
  }

  bool has_room(c10::DeviceIndex index, size_t bytes) const {
    const Card& card = cards_[index];
    return !card.is_short && card.bytes + bytes <= card.capacity;
  }

  void look_at_memory(c10::Device device) {
    Card& card = cards_[device.index()];
    if (card.known) return;
    const auto memory = runtime::device_memory(device);
    card.capacity = limit_.value_or(memory ? memory->total / kPartOfMemory : 0);
    card.is_short = memory && memory->free < memory->total / kPartLeft;
    card.known = true;
  }

  // Under the lock of the allocator of the current card: touches neither another card's packs nor what may be Python's.
  bool relieve() {
    const c10::Device device = c10::impl::VirtualGuardImpl(c10::kCUDA).getDevice();
    if (!any_ || runtime::is_capturing(device)) return false;
    const auto memory = runtime::device_memory(device);
    if (!memory) return false;
    Locked locked(*this);
    Card& card = cards_[device.index()];
    card.is_short = memory->free < memory->total / kPartLeft;
    for (auto& [storage, weight] : weights_) {
      if (weight.card == device.index() && (card.is_short || weight.alive.expired())) drop(weight, locked);
    }
    return !locked.gone.empty();
  }

  std::mutex mutex_;
  std::unordered_map<c10::StorageImpl*, Weight> weights_;
  std::array<Card, runtime::kMostDevices> cards_;
  std::optional<size_t> limit_;
  PackStats stats_{};
  int64_t meetings_ = 0;
  size_t swept_ = 0;  // storages that the last sweep left
  std::atomic<bool> on_ = false, any_ = false;
};

}  // namespace

Tensor pack_on_card(const Tensor& weight, const Conv1dPackParams& params) { return Table::table().get(weight, params); }
void keep_card_packs(bool on) { Table::table().set_on(on); }
void keep_no_card_pack(c10::StorageImpl* storage) { Table::table().never(storage); }
void drop_card_packs() { Table::table().drop_all(); }

CardWrite::CardWrite(const c10::StorageImpl& storage) : storage_(&storage) {
  if (owns_memory(storage)) return;
  foreign_begin_ = static_cast<const char*>(storage.data_ptr().get());
  foreign_end_ = foreign_begin_ + storage.nbytes();
}
CardWrite::~CardWrite() { Table::table().note_write(storage_, foreign_begin_, foreign_end_); }

PackStats card_pack_stats() { return Table::table().stats(); }

}  // namespace blackwell_compat
