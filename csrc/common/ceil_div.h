// Quotients rounded up.
#pragma once
#include <cstdint>

namespace blackwell_compat {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace blackwell_compat
