// fft with AVX-512: 16 frames of float32 at a time.
#define BC_ISA avx512
namespace blackwell_compat::fft::avx512 {
constexpr int kBytes = 64;
}
#include "common/fft_kernel.h"

namespace blackwell_compat::fft {
extern const Kernels<float> kFloat_avx512 = avx512::table<float>();
extern const Kernels<double> kDouble_avx512 = avx512::table<double>();
}  // namespace blackwell_compat::fft
