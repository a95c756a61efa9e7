#include "common/give_back.h"

#include <atomic>
#include <cstdlib>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace blackwell_compat {

void give_back([[maybe_unused]] size_t nbytes) {
#if defined(__GLIBC__)
  constexpr size_t kEnough = 8 << 20;
  static std::atomic<size_t> freed{0};
  if ((freed += nbytes) < kEnough) return;
  freed = 0;
  malloc_trim(0);
#endif
}

}  // namespace blackwell_compat
