// fft with AVX2 and FMA: 8 frames of float32 at a time.
#define BC_ISA avx2
namespace blackwell_compat::fft::avx2 {
constexpr int kBytes = 32;
}
#include "common/fft_kernel.h"

namespace blackwell_compat::fft {
extern const Kernels<float> kFloat_avx2 = avx2::table<float>();
extern const Kernels<double> kDouble_avx2 = avx2::table<double>();
}  // namespace blackwell_compat::fft
