// row_gemm with AVX2 and FMA: 6 rows by 16 columns in registers.
#define BC_ISA avx2
namespace blackwell_compat::rows::avx2 {
constexpr int kLanes = 8, kMaxRows = 6, kMaxVectors = 2;
}
#include "common/row_gemm_kernel.h"

namespace blackwell_compat::rows {
void multiply_avx2(const Product& product, const float* x, const float* packed, const float* bias, float* y, int64_t begin,
                   int64_t end) {
  avx2::multiply(product, x, packed, bias, y, begin, end);
}
}  // namespace blackwell_compat::rows
