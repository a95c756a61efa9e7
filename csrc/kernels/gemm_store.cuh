// What becomes of a sum over K.
#pragma once
#include "kernels/activation.cuh"
#include "kernels/gemm.cuh"
#include "kernels/platform.cuh"

namespace blackwell_compat {

template <typename T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};

// Gives each sum of a product's tile to store(row, column, sum), slice by slice through shared memory, whose lines lie `line`
// values apart. Neighbouring threads have neighbours along the tile's columns, else along its rows.
template <int kTile, int kThreads, class Product, typename A, class Store>
__device__ __forceinline__ void store_tile(const Product& product, A* staged, int line, bool along_rows, Store store) {
#pragma unroll 1
  for (int slice = 0; slice < Product::kSlices; ++slice) {
    __syncthreads();
    product.stage(slice, staged, line);
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x; i < Product::kSliceRows * kTile; i += kThreads) {
      const int row = along_rows ? i % Product::kSliceRows : i / kTile;
      const int column = along_rows ? i / Product::kSliceRows : i % kTile;
      store(Product::row_of(slice, row), column, staged[row * line + column]);
    }
  }
}

// The end of a sum: addend, activation, rounding.
template <typename T, typename A>
__device__ __forceinline__ void store_result(const GemmParams& p, int64_t batch, int64_t row, int64_t column, A value) {
  if (p.addend) {
    const T* const addend = static_cast<const T*>(p.addend) + batch * p.addend_batch;
    value += to_float(addend[row * p.addend_row + column * p.addend_column]);
  }
  T* const out = static_cast<T*>(p.out) + batch * p.out_batch;
  out[row * p.out_row + column] = Convert<T>::from(activated(value, p.activation, p.slope));
}

// A sum over all of K, or over the part of it that `split` has.
template <typename T, typename A>
__device__ __forceinline__ void store_sum(const GemmParams& p, unsigned split, unsigned batch, int64_t row, int64_t column,
                                          A value) {
  if (p.partial) {
    static_cast<A*>(p.partial)[((int64_t(split) * p.batch + batch) * p.M + row) * p.N + column] = value;
  } else {
    store_result<T>(p, batch, row, column, value);
  }
}

}  // namespace blackwell_compat
