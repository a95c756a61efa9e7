// Copies between strided tensors: cat, stack, flip, roll. A block belongs to one piece.
#include "kernels/cat.cuh"
#include "kernels/elements.cuh"
#include "kernels/steps.cuh"

namespace blackwell_compat {

template <int bytes>
__device__ __forceinline__ void cat(const CatParams& p) {
  using T = Element<bytes>;
  int number = 0;
  while (number + 1 < p.pieces && blockIdx.x >= p.piece[number + 1].first_block) ++number;
  const CatPiece& piece = p.piece[number];
  unsigned size = 1;
#pragma unroll
  for (int d = 0; d < kCatDims; ++d) size *= piece.sizes[d];
  const unsigned begin = (blockIdx.x - piece.first_block) * (kCatThreads * kCatUnitsOfThread) + threadIdx.x;
  T values[kCatUnitsOfThread];
  int64_t places[kCatUnitsOfThread];
#pragma unroll
  for (int u = 0; u < kCatUnitsOfThread; ++u) {
    const unsigned place = begin + u * kCatThreads;
    if (place >= size) break;
    int64_t from = 0, to = 0;
    each_step(place, piece.sizes, p.dims, [&](int d, unsigned step) {
      from += step * piece.from_strides[d];
      to += step * piece.to_strides[d];
    });
    values[u] = static_cast<const T*>(piece.from)[from];
    places[u] = to;
  }
#pragma unroll
  for (int u = 0; u < kCatUnitsOfThread; ++u) {
    if (begin + u * kCatThreads < size) static_cast<T*>(piece.to)[places[u]] = values[u];
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_cat_b1, 256, CatParams, cat<1>)
BC_ENTRY(compat_cat_b2, 256, CatParams, cat<2>)
BC_ENTRY(compat_cat_b4, 256, CatParams, cat<4>)
BC_ENTRY(compat_cat_b8, 256, CatParams, cat<8>)
BC_ENTRY(compat_cat_b16, 256, CatParams, cat<16>)
