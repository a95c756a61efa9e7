// arange and linspace in float64 or int64 whatever the dtype; eye, tril and triu as bands of a matrix.
#include "kernels/elements.cuh"
#include "kernels/range.cuh"
#include "kernels/steps.cuh"

namespace blackwell_compat {

template <typename T>
__device__ __forceinline__ void put(void* to, int64_t i, T value) {
  static_cast<T*>(to)[i] = value;
}

__device__ __forceinline__ void range(const RangeParams& p) {
  const int64_t i = int64_t(blockIdx.x) * kRangeThreads + threadIdx.x;
  if (i >= p.size) return;
  // The product is rounded, too, as on the CPU: one bit decides what a number that is cut off becomes
  const double value =
      i < p.half ? __dadd_rn(p.start, __dmul_rn(i, p.step)) : __dadd_rn(p.end, -__dmul_rn(p.size - 1 - i, p.step));
  const int64_t whole = p.real ? static_cast<int64_t>(value) : p.whole_start + i * p.whole_step;
  switch (p.kind) {
    case ScalarKind::kFloat:
      return put(p.to, i, static_cast<float>(value));
    case ScalarKind::kDouble:
      return put(p.to, i, value);
    case ScalarKind::kHalf:
      return put(p.to, i, Convert<f16>::from(static_cast<float>(value)));
    case ScalarKind::kBFloat16:
      return put(p.to, i, Convert<bf16>::from(static_cast<float>(value)));
    case ScalarKind::kByte:
      return put(p.to, i, static_cast<unsigned char>(whole));
    case ScalarKind::kChar:
      return put(p.to, i, static_cast<signed char>(whole));
    case ScalarKind::kShort:
      return put(p.to, i, static_cast<short>(whole));
    case ScalarKind::kInt:
      return put(p.to, i, static_cast<int>(whole));
    default:
      return put(p.to, i, whole);
  }
}

template <int bytes>
__device__ __forceinline__ void band(const BandParams& p) {
  using T = Element<bytes>;
  const unsigned place = blockIdx.x * kRangeThreads + threadIdx.x;
  if (place >= p.elements) return;
  int64_t from = 0, to = 0, diagonal = 0;
  each_step(place, p.sizes, kBandDims, [&](int d, unsigned step) {
    from += step * p.from_strides[d];
    to += step * p.to_strides[d];
    if (d == kBandDims - 1) diagonal += step;
    if (d == kBandDims - 2) diagonal -= step;
  });
  T value = T();
  if (diagonal >= p.low && diagonal <= p.high) {
    value = p.from ? static_cast<const T*>(p.from)[from] : element_of<bytes>(p.value);
  }
  static_cast<T*>(p.to)[to] = value;
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_range, 256, RangeParams, range)
BC_ENTRY(compat_range_band_b1, 256, BandParams, band<1>)
BC_ENTRY(compat_range_band_b2, 256, BandParams, band<2>)
BC_ENTRY(compat_range_band_b4, 256, BandParams, band<4>)
BC_ENTRY(compat_range_band_b8, 256, BandParams, band<8>)
BC_ENTRY(compat_range_band_b16, 256, BandParams, band<16>)
