// What stands around the short-time transforms: values in the dtype of the arithmetic, and the gradients of padding and of the
// envelope.
#include "kernels/platform.cuh"
#include "kernels/spectral.cuh"

namespace blackwell_compat {

template <typename A>
__device__ __forceinline__ A scalar_at(const void* from, int64_t i, ScalarKind kind) {
  switch (kind) {
    case ScalarKind::kFloat:
      return A(static_cast<const float*>(from)[i]);
    case ScalarKind::kDouble:
      return A(static_cast<const double*>(from)[i]);
    case ScalarKind::kHalf:
      return A(to_float(static_cast<const f16*>(from)[i]));
    case ScalarKind::kBFloat16:
      return A(to_float(static_cast<const bf16*>(from)[i]));
    case ScalarKind::kByte:
      return A(static_cast<const unsigned char*>(from)[i]);
    case ScalarKind::kChar:
      return A(static_cast<const signed char*>(from)[i]);
    case ScalarKind::kShort:
      return A(static_cast<const short*>(from)[i]);
    case ScalarKind::kInt:
      return A(static_cast<const int*>(from)[i]);
    default:
      return A(static_cast<const int64_t*>(from)[i]);
  }
}

__device__ __forceinline__ int64_t element_of_grid() { return int64_t(blockIdx.x) * kSpectralThreads + threadIdx.x; }

template <typename A>
__device__ __forceinline__ void fill(const FillParams& p) {
  const int64_t i = element_of_grid();
  if (i >= p.size) return;
  const int64_t at = i - p.left;
  A value = 0;
  if (at >= 0 && at < p.width) value = p.from ? scalar_at<A>(p.from, at * p.stride, p.kind) : A(1);
  static_cast<A*>(p.to)[i] = value * A(p.scale);
}

template <typename A>
__device__ __forceinline__ void unpad(const UnpadParams& p) {
  const int64_t element = element_of_grid();
  if (element >= p.rows * p.length * p.parts) return;
  const int64_t row = element / p.parts / p.length, i = element / p.parts % p.length;
  const A* const from =
      static_cast<const A*>(p.from) + row * (p.length + 2 * p.pad) * p.parts + static_cast<int>(element % p.parts);
  A sum = from[(p.pad + i) * p.parts];
  int64_t left = -1, right = -1, count = 1;  // the first of `count` copies on each side
  switch (p.mode) {
    case Pad::kReflect:
      if (i >= 1 && i <= p.pad) left = p.pad - i;
      if (i >= p.length - 1 - p.pad && i < p.length - 1) right = p.pad + 2 * (p.length - 1) - i;
      break;
    case Pad::kReplicate:
      if (i == 0) left = 0;
      if (i == p.length - 1) right = p.pad + p.length;
      count = p.pad;
      break;
    case Pad::kCircular:
      if (i >= p.length - p.pad) left = i - (p.length - p.pad);
      if (i < p.pad) right = p.pad + p.length + i;
      break;
    default:
      break;
  }
  if (left >= 0) {
    for (int64_t copy = 0; copy < count; ++copy) sum += from[(left + copy) * p.parts];
  }
  if (right >= 0) {
    for (int64_t copy = 0; copy < count; ++copy) sum += from[(right + copy) * p.parts];
  }
  static_cast<A*>(p.to)[element] = sum;
}

template <typename A>
__device__ __forceinline__ void divide(const DivideParams& p) {
  const int64_t element = element_of_grid();
  if (element >= p.rows * p.length * p.parts) return;
  const int64_t row = element / p.parts / p.length, i = element / p.parts % p.length, at = p.start + i;
  const int64_t oldest = at < p.n_fft ? 0 : (at - p.n_fft) / p.hop + 1, newest = min(at / p.hop, p.n_frames - 1);
  A envelope = 0;
  for (int64_t t = oldest; t <= newest; ++t) {
    const A value = static_cast<const A*>(p.window)[at - t * p.hop];
    envelope += value * value;
  }
  const int64_t from = (row * p.row_stride + i * p.stride) * p.parts + element % p.parts;
  static_cast<A*>(p.to)[element] = static_cast<const A*>(p.from)[from] / envelope;
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_spectral_fill_f32, 256, FillParams, fill<float>)
BC_ENTRY(compat_spectral_fill_f64, 256, FillParams, fill<double>)
BC_ENTRY(compat_spectral_unpad_f32, 256, UnpadParams, unpad<float>)
BC_ENTRY(compat_spectral_unpad_f64, 256, UnpadParams, unpad<double>)
BC_ENTRY(compat_spectral_divide_f32, 256, DivideParams, divide<float>)
BC_ENTRY(compat_spectral_divide_f64, 256, DivideParams, divide<double>)
