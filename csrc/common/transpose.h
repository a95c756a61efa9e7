// Between the two layouts of a 1-D signal: planes (channel by channel, "NCL") and rows (position by position, "NLC").
#pragma once
#include <cstdint>

namespace blackwell_compat {

// to[c * to_stride + r] = from[r * from_stride + c] for r < rows, c < columns; Element is 8, 4 or 2 bytes wide.
template <typename Element>
void transpose(const Element* from, int64_t from_stride, int64_t rows, int64_t columns, Element* to, int64_t to_stride);

}  // namespace blackwell_compat
