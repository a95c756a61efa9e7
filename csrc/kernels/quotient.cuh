// Division of indices by a number that the host knows: a product and a correction.
#pragma once

namespace blackwell_compat {

// For `quotient`.
constexpr unsigned divisor_of(unsigned value) { return 0xffffffffu / value; }

#if defined(__CUDACC__) || defined(__CUDA_ARCH__)
// a / b for 0 <= a, where `by` is divisor_of(b): too small by one at most before it is corrected
__device__ __forceinline__ int quotient(int a, int b, unsigned by) {
  const int low = static_cast<int>(__umulhi(static_cast<unsigned>(a), by));
  return low + (a - low * b >= b);
}
#endif

}  // namespace blackwell_compat
