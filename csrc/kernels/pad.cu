// Padding: a thread makes elements of the result. The gradients gather, too: what an element was copied to is few elements.
#include "kernels/elements.cuh"
#include "kernels/pad.cuh"
#include "kernels/steps.cuh"

namespace blackwell_compat {

template <int bytes>
__device__ __forceinline__ void pad(const PadParams& p) {
  using T = Element<bytes>;
  const unsigned begin = blockIdx.x * (kPadThreads * kPadUnitsOfThread) + threadIdx.x;
#pragma unroll
  for (int u = 0; u < kPadUnitsOfThread; ++u) {
    const unsigned place = begin + u * kPadThreads;
    if (place >= p.elements) return;
    int64_t from = 0, to = 0;
    bool inside = true;
    each_step(place, p.padded, p.dims, [&](int d, unsigned step) {
      to += step * p.to_strides[d];
      int64_t at = step - p.before[d];
      if (at < 0 || at >= p.sizes[d]) {
        if (p.fill == Fill::kConstant) inside = false;
        const int64_t last = p.sizes[d] - 1;
        at = p.fill == Fill::kReflect ? (at < 0 ? -at : 2 * last - at) : at < 0 ? 0 : last;
      }
      from += at * p.from_strides[d];
    });
    static_cast<T*>(p.to)[to] = inside ? static_cast<const T*>(p.from)[from] : element_of<bytes>(p.value);
  }
}

// Where element `at` of a dimension was copied to: `first` and `count - 1` more elements behind it, or up to two mirrored ones.
struct Copies {
  int64_t first, count, left, right;  // negative: there is none

  __device__ __forceinline__ Copies(const PadParams& p, int d, int64_t at) : count(1), left(-1), right(-1) {
    const int64_t last = p.sizes[d] - 1, before = p.before[d], padded = p.padded[d];
    first = before + at;
    if (p.fill == Fill::kReflect) {
      if (at > 0) left = before - at;
      if (at < last) right = before + 2 * last - at;
      if (left >= padded) left = -1;
      if (right >= padded) right = -1;
      if (first >= padded) first = -1;
      return;
    }
    int64_t end = first + 1;
    if (at == last) end = padded;
    if (at == 0) first = 0;
    first = max(first, int64_t(0));
    count = min(end, padded) - first;
  }
  __device__ __forceinline__ int64_t many() const { return count < 0 ? 2 : count + 2; }
  __device__ __forceinline__ int64_t operator[](int64_t i) const {
    return i == 0 ? left : i == 1 ? right : first < 0 ? -1 : first + i - 2;
  }
};

template <typename T>
__device__ __forceinline__ void pad_gradient(const PadParams& p) {
  const unsigned place = blockIdx.x * kPadThreads + threadIdx.x;
  if (place >= p.elements) return;
  int64_t at[3], from = 0, to = 0;
  each_step(place, p.sizes, kPadDims, [&](int d, unsigned step) {
    to += step * p.to_strides[d];
    if (d >= kPadDims - 3) {
      at[d - (kPadDims - 3)] = step;
    } else {
      from += step * p.from_strides[d];
    }
  });
  const Copies outer(p, kPadDims - 3, at[0]), middle(p, kPadDims - 2, at[1]), inner(p, kPadDims - 1, at[2]);
  decltype(to_float(T{})) sum = 0;
  for (int64_t i = 0; i < outer.many(); ++i) {
    if (outer[i] < 0) continue;
    for (int64_t j = 0; j < middle.many(); ++j) {
      if (middle[j] < 0) continue;
      const int64_t line = from + outer[i] * p.from_strides[kPadDims - 3] + middle[j] * p.from_strides[kPadDims - 2];
      for (int64_t k = 0; k < inner.many(); ++k) {
        if (inner[k] >= 0) sum += to_float(static_cast<const T*>(p.from)[line + inner[k] * p.from_strides[kPadDims - 1]]);
      }
    }
  }
  static_cast<T*>(p.to)[to] = Convert<T>::from(sum);
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_pad_b1, 256, PadParams, pad<1>)
BC_ENTRY(compat_pad_b2, 256, PadParams, pad<2>)
BC_ENTRY(compat_pad_b4, 256, PadParams, pad<4>)
BC_ENTRY(compat_pad_b8, 256, PadParams, pad<8>)
BC_ENTRY(compat_pad_b16, 256, PadParams, pad<16>)
BC_ENTRY(compat_pad_gradient_f32, 256, PadParams, pad_gradient<float>)
BC_ENTRY(compat_pad_gradient_f16, 256, PadParams, pad_gradient<f16>)
BC_ENTRY(compat_pad_gradient_bf16, 256, PadParams, pad_gradient<bf16>)
BC_ENTRY(compat_pad_gradient_f64, 256, PadParams, pad_gradient<double>)
