// Memory in the order of a stream: cudaMallocAsync and its pools.
#pragma once
#include <atomic>

#include "stream.h"

namespace fakecard {

enum class PoolAttribute {
  kReleaseThreshold = 4,
  kReservedCurrent = 5,
  kReservedHigh = 6,
  kUsedCurrent = 7,
  kUsedHigh = 8,
};

// Gives back at once what is freed, so that reserved and used are the same
struct Pool {
  int device;
  std::atomic<uint64_t> used{0}, high{0}, threshold{0};  // bytes
  std::atomic<int> flags[4] = {};                        // the attributes 1 to 3, which change nothing here
};

Pool* default_pool(int device);
Error create_pool(int device, Pool** pool);
Error destroy_pool(Pool* pool);
bool is_pool(const Pool* pool);
Error allocate_in_order(Pool* pool, size_t bytes, const StreamPtr& stream, void** pointer);
Error free_in_order(void* pointer, const StreamPtr& stream);
Error get_attribute(const Pool& pool, int attribute, void* value);
Error set_attribute(Pool* pool, int attribute, const void* value);

}  // namespace fakecard
