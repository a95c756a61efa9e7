// Where a place stands in nested loops.
#pragma once
#include "kernels/platform.cuh"

namespace blackwell_compat {

// visit(d, step) for the last `used` loops, the innermost first: which step of each makes place `rest` of all places in order.
template <int dims, typename Size, typename Visit>
__device__ __forceinline__ void each_step(unsigned rest, const Size (&sizes)[dims], int used, const Visit& visit) {
#pragma unroll
  for (int d = dims - 1; d >= 0; --d) {
    if (dims - d > used) break;
    unsigned step = rest;
    if (dims - d < used) {
      const unsigned size = static_cast<unsigned>(sizes[d]);
      rest /= size;
      step -= rest * size;
    }
    visit(d, step);
  }
}

}  // namespace blackwell_compat
