// An allocation is there when the call returns and may be used by what its stream does later; it goes when its stream gets there.
#include "pool.h"

#include <map>
#include <set>

#include "memory.h"

namespace fakecard {
namespace {

struct Owned {
  Pool* pool;
  size_t bytes;
};
struct Pools {
  std::mutex lock;
  std::map<int, Pool*> defaults;
  std::set<const Pool*> pools;
  std::map<void*, Owned> owned;
};
Pools& all() {
  static Pools& it = *new Pools;
  return it;
}

Pool* made_for(int device) {
  Pool* pool = new Pool;
  pool->device = device;
  all().pools.insert(pool);
  return pool;
}

}  // namespace

Pool* default_pool(int device) {
  const std::lock_guard<std::mutex> guard(all().lock);
  Pool*& pool = all().defaults[device];
  if (!pool) pool = made_for(device);
  return pool;
}

Error create_pool(int device, Pool** pool) {
  const std::lock_guard<std::mutex> guard(all().lock);
  *pool = made_for(device);
  return kSuccess;
}

Error destroy_pool(Pool* pool) {
  const std::lock_guard<std::mutex> guard(all().lock);
  for (const auto& [device, it] : all().defaults)
    if (it == pool) return kInvalidValue;
  for (const auto& [pointer, owner] : all().owned)
    if (owner.pool == pool) return not_implemented("destroying a memory pool that still has allocations");
  if (!all().pools.erase(pool)) return kInvalidValue;
  delete pool;
  return kSuccess;
}

bool is_pool(const Pool* pool) {
  const std::lock_guard<std::mutex> guard(all().lock);
  return all().pools.count(pool) > 0;
}

Error allocate_in_order(Pool* pool, size_t bytes, const StreamPtr& stream, void** pointer) {
  if (!is_pool(pool) || pool->device != stream->device) return kInvalidValue;
  if (capturing(stream)) return not_implemented("cudaMallocAsync in a captured stream");
  if (const Error error = allocate(pool->device, bytes, pointer)) return error;
  const std::lock_guard<std::mutex> guard(all().lock);
  if (*pointer) all().owned[*pointer] = {pool, bytes};
  pool->used += bytes;
  if (pool->used > pool->high) pool->high = pool->used.load();
  return kSuccess;
}

Error free_in_order(void* pointer, const StreamPtr& stream) {
  if (!pointer) return kSuccess;
  if (capturing(stream)) return not_implemented("cudaFreeAsync in a captured stream");
  Owned owned;
  {
    const std::lock_guard<std::mutex> guard(all().lock);
    const auto found = all().owned.find(pointer);
    if (found == all().owned.end()) return kInvalidValue;
    owned = found->second;
    all().owned.erase(found);
  }
  return submit(stream, {Kind::kEmpty, "free", [=] {
                           owned.pool->used -= owned.bytes;
                           return release(pointer);
                         }});
}

Error get_attribute(const Pool& pool, int attribute, void* value) {
  auto& number = *static_cast<uint64_t*>(value);
  if (attribute >= 1 && attribute <= 3) {
    *static_cast<int*>(value) = pool.flags[attribute];
    return kSuccess;
  }
  switch (static_cast<PoolAttribute>(attribute)) {
    case PoolAttribute::kReleaseThreshold:
      number = pool.threshold;
      return kSuccess;
    case PoolAttribute::kReservedCurrent:
    case PoolAttribute::kUsedCurrent:
      number = pool.used;
      return kSuccess;
    case PoolAttribute::kReservedHigh:
    case PoolAttribute::kUsedHigh:
      number = pool.high;
      return kSuccess;
  }
  return kInvalidValue;
}

Error set_attribute(Pool* pool, int attribute, const void* value) {
  const auto number = *static_cast<const uint64_t*>(value);
  if (attribute >= 1 && attribute <= 3) {
    pool->flags[attribute] = *static_cast<const int*>(value);
    return kSuccess;
  }
  switch (static_cast<PoolAttribute>(attribute)) {
    case PoolAttribute::kReleaseThreshold:
      pool->threshold = number;
      return kSuccess;
    case PoolAttribute::kReservedHigh:
    case PoolAttribute::kUsedHigh:
      if (number) return kInvalidValue;  // they can only be reset
      pool->high = pool->used.load();
      return kSuccess;
    default:
      return kInvalidValue;
  }
}

}  // namespace fakecard
