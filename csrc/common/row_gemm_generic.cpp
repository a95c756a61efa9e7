// row_gemm with the vectors every CPU of the platform has: 6 rows by 8 columns in registers.
#define BC_ISA generic
namespace blackwell_compat::rows::generic {
constexpr int kLanes = 4, kMaxRows = 6;
}
#include "common/row_gemm_kernel.h"

namespace blackwell_compat::rows {
void multiply_generic(const Product& product, const float* x, const float* packed, const float* bias, float* y, int64_t begin,
                      int64_t end) {
  generic::multiply(product, x, packed, bias, y, begin, end);
}
}  // namespace blackwell_compat::rows
