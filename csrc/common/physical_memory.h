// How much memory the machine has.
#pragma once
#include <unistd.h>

#include <cstdint>

namespace blackwell_compat {

inline int64_t physical_memory() {  // bytes
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<int64_t>(sysconf(_SC_PAGE_SIZE));
}

}  // namespace blackwell_compat
