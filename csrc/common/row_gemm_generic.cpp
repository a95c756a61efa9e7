// row_gemm with the vectors every CPU of the platform has: in registers 5 rows by 16 columns with Arm's 32, 6 by 8 with 16.
#define BC_ISA generic
namespace blackwell_compat::rows::generic {
constexpr int kLanes = 4;
#if defined(__aarch64__)
constexpr int kMaxRows = 5, kMaxVectors = 4;
#else
constexpr int kMaxRows = 6, kMaxVectors = 2;
#endif
}  // namespace blackwell_compat::rows::generic
#include "common/row_gemm_kernel.h"

namespace blackwell_compat::rows {
void multiply_generic(const Product& product, const float* x, const float* packed, const float* bias, float* y, int64_t begin,
                      int64_t end) {
  generic::multiply(product, x, packed, bias, y, begin, end);
}
}  // namespace blackwell_compat::rows
