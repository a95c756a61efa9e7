// Freed memory goes back to the system: glibc keeps what is smaller than the largest block that was freed before.
#pragma once
#include <cstddef>

namespace blackwell_compat {

// Says that about `nbytes` of large tensors were freed; acts once that is enough to be worth it. Thread-safe.
void give_back(size_t nbytes);

}  // namespace blackwell_compat
