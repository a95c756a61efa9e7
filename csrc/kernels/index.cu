// gather, index_select, index, and the writes that are their reverse. An index that names no row of the table ends the launch
// with an error, as PyTorch's assertions do.
#include "kernels/elements.cuh"
#include "kernels/index.cuh"
#include "kernels/steps.cuh"

namespace blackwell_compat {

__device__ __forceinline__ int64_t row_of(const void* index, int64_t at, bool wide, int64_t rows) {
  int64_t row = wide ? static_cast<const int64_t*>(index)[at] : static_cast<const int*>(index)[at];
  if (row < 0) row += rows;
  if (row < 0 || row >= rows) __trap();
  return row;
}

template <int bytes, bool writes>
__device__ __forceinline__ void index(const IndexParams& p) {
  using T = Element<bytes>;
  const unsigned begin = blockIdx.x * (kIndexThreads * kIndexUnitsOfThread) + threadIdx.x;
#pragma unroll
  for (int u = 0; u < kIndexUnitsOfThread; ++u) {
    const unsigned place = begin + u * kIndexThreads;
    if (place >= p.size) return;
    int64_t from = 0, to = 0, at = 0;
    each_step(place, p.sizes, p.dims, [&](int d, unsigned step) {
      from += step * p.from_strides[d];
      to += step * p.to_strides[d];
      at += step * p.index_strides[d];
    });
    int64_t row = 0;
#pragma unroll 1
    for (int k = 0; k < p.count; ++k) row += row_of(p.indices[k], at, p.wide, p.rows[k]) * p.row_strides[k];
    if (writes) {
      static_cast<T*>(p.to)[to + row] = p.from ? static_cast<const T*>(p.from)[from] : element_of<bytes>(p.value);
    } else {
      static_cast<T*>(p.to)[to] = static_cast<const T*>(p.from)[from + row];
    }
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_index_read_b1, 256, IndexParams, index<1, false>)
BC_ENTRY(compat_index_read_b2, 256, IndexParams, index<2, false>)
BC_ENTRY(compat_index_read_b4, 256, IndexParams, index<4, false>)
BC_ENTRY(compat_index_read_b8, 256, IndexParams, index<8, false>)
BC_ENTRY(compat_index_read_b16, 256, IndexParams, index<16, false>)
BC_ENTRY(compat_index_write_b1, 256, IndexParams, index<1, true>)
BC_ENTRY(compat_index_write_b2, 256, IndexParams, index<2, true>)
BC_ENTRY(compat_index_write_b4, 256, IndexParams, index<4, true>)
BC_ENTRY(compat_index_write_b8, 256, IndexParams, index<8, true>)
BC_ENTRY(compat_index_write_b16, 256, IndexParams, index<16, true>)
