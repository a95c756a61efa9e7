// fft with the vectors every CPU of the platform has: 4 frames of float32 at a time.
#define BC_ISA generic
namespace blackwell_compat::fft::generic {
constexpr int kBytes = 16;
}
#include "common/fft_kernel.h"

namespace blackwell_compat::fft {
extern const Kernels<float> kFloat_generic = generic::table<float>();
extern const Kernels<double> kDouble_generic = generic::table<double>();
}  // namespace blackwell_compat::fft
