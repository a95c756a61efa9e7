// The copy engine: whatever moves or fills bytes.
#pragma once
#include "stream.h"

namespace fakecard {

// Rows of a box; one row is a plain copy. Pitches are the bytes from a row to the next, slices those from a layer to the next
struct Box {
  size_t width = 0, height = 1, depth = 1;  // bytes, rows, layers
};
struct Strides {
  size_t pitch = 0, slice = 0;
};
struct Transfer {
  void* to = nullptr;
  const void* from = nullptr;
  Box box;
  Strides to_strides, from_strides;
};
enum class Direction { kH2h = 0, kH2d = 1, kD2h = 2, kD2d = 3, kDefault = 4 };  // the numbers of cudaMemcpyKind

// `asynchronous`: as cudaMemcpyAsync, which still waits where it would have to read or write pageable memory later
Error copy(const Transfer& transfer, Direction direction, const StreamPtr& stream, bool asynchronous);

struct Fill {
  void* to = nullptr;
  unsigned value = 0;
  unsigned element_bytes = 1;  // 1, 2 or 4
  Box box;                     // width in bytes
  Strides strides;
};
Error fill(const Fill& fill, const StreamPtr& stream, bool asynchronous);

}  // namespace fakecard
