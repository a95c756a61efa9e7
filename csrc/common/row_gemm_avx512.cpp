// row_gemm with AVX-512: 12 rows by 32 columns in registers.
#define BC_ISA avx512
namespace blackwell_compat::rows::avx512 {
constexpr int kLanes = 16, kMaxRows = 12, kMaxVectors = 2;
}
#include "common/row_gemm_kernel.h"

namespace blackwell_compat::rows {
void multiply_avx512(const Product& product, const float* x, const float* packed, const float* bias, float* y, int64_t begin,
                     int64_t end) {
  avx512::multiply(product, x, packed, bias, y, begin, end);
}
}  // namespace blackwell_compat::rows
