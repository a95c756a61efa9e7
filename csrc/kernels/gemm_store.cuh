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

// How far rows and columns of the result lie apart where they leave through shared memory
struct Staged {
  int row, column;

  __device__ __forceinline__ int at(int r, int c) const { return r * row + c * column; }
};

// 16 bytes of a result
template <typename T>
struct alignas(16) Vector {
  static constexpr int kCount = 16 / sizeof(T);
  T value[kCount];
};

__device__ __forceinline__ bool is_aligned(const void* at) { return reinterpret_cast<unsigned long long>(at) % 16 == 0; }

template <typename T, typename A>
__device__ __forceinline__ void store_rounded(T* to, const A (&values)[Vector<T>::kCount]) {
  Vector<T> out;
#pragma unroll
  for (int e = 0; e < Vector<T>::kCount; ++e) out.value[e] = Convert<T>::from(values[e]);
  *reinterpret_cast<Vector<T>*>(to) = out;
}

template <typename A, int count>
__device__ __forceinline__ void store_sums(A* to, const A (&values)[count]) {
#pragma unroll
  for (int e = 0; e < count; e += Vector<A>::kCount) {
    Vector<A> out;
#pragma unroll
    for (int i = 0; i < Vector<A>::kCount; ++i) out.value[i] = values[e + i];
    *reinterpret_cast<Vector<A>*>(to + e) = out;
  }
}

template <typename A, int count>
__device__ __forceinline__ void read_sums(A (&values)[count], const A* from) {
#pragma unroll
  for (int e = 0; e < count; e += Vector<A>::kCount) {
    const Vector<A> in = *reinterpret_cast<const Vector<A>*>(from + e);
#pragma unroll
    for (int i = 0; i < Vector<A>::kCount; ++i) values[e + i] = in.value[i];
  }
}

// Gives the sums of a product's tile to `end`, slice by slice through shared memory. Neighbouring threads have neighbours along
// the tile's columns, else along its rows. Where it takes vectors (end.vectors), end.store_vector gets as many neighbours as 16
// bytes of the result hold; an activation comes before that, one value at a time, as its code is long.
template <int kColumns, int kThreads, bool along_rows, class Product, typename A, class End>
__device__ __forceinline__ void store_tile(const Product& product, A* shared, const End& end) {
  constexpr Staged staged = along_rows ? Staged{1, Product::kSliceRows + 4} : Staged{kColumns + 8, 1};
  constexpr int kResults = Product::kSliceRows * kColumns, kCount = End::kCount;
  constexpr int kLine = along_rows ? Product::kSliceRows : kColumns;
  static_assert(kLine % kCount == 0);
  const auto row_at = [](int i) { return along_rows ? i % kLine : i / kLine; };
  const auto column_at = [](int i) { return along_rows ? i / kLine : i % kLine; };
#pragma unroll 1
  for (int slice = 0; slice < Product::kSlices; ++slice) {
    __syncthreads();
    product.stage(slice, shared, staged);
    __syncthreads();
    if (!end.vectors || end.activates()) {
#pragma unroll 1
      for (int i = threadIdx.x; i < kResults; i += kThreads) {
        const int row = row_at(i), column = column_at(i);
        A& sum = shared[staged.at(row, column)];
        sum = end.finished(Product::row_of(slice, row), column, sum);
        if (!end.vectors) end.store(Product::row_of(slice, row), column, sum);
      }
      if (!end.vectors) continue;
      __syncthreads();
    }
#pragma unroll 1
    for (int i = threadIdx.x * kCount; i < kResults; i += kThreads * kCount) {
      const int row = row_at(i), column = column_at(i);
      A sums[kCount];
      read_sums(sums, shared + staged.at(row, column));
      end.store_vector(Product::row_of(slice, row), column, sums);
    }
  }
}

// Addend and activation of a sum
template <typename T, typename A>
__device__ __forceinline__ A finished_sum(const GemmParams& p, int64_t batch, int64_t row, int64_t column, A value) {
  if (p.addend) {
    const T* const addend = static_cast<const T*>(p.addend) + batch * p.addend_batch;
    value += to_float(addend[row * p.addend_row + column * p.addend_column]);
  }
  return activated(value, p.activation, p.slope);
}

template <typename T, typename A>
__device__ __forceinline__ void store_result(const GemmParams& p, int64_t batch, int64_t row, int64_t column, A value) {
  T* const out = static_cast<T*>(p.out) + batch * p.out_batch;
  out[row * p.out_row + column] = Convert<T>::from(finished_sum<T>(p, batch, row, column, value));
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

// Where the sums of a tile go: to the result, those of a part of K to `partial`
template <typename T, typename A>
class GemmEnd {
 public:
  static constexpr int kCount = Vector<T>::kCount;

  __device__ GemmEnd(const GemmParams& p, unsigned split, unsigned batch, int64_t first_row, int64_t first_column)
      : p_(p),
        batch_(batch),
        first_row_(first_row),
        first_column_(first_column),
        rows_(static_cast<int>(min(p.M - first_row, int64_t(kMost)))),
        columns_(static_cast<int>(min(p.N - first_column, int64_t(kMost)))),
        out_(static_cast<T*>(p.out) + batch * p.out_batch + first_row * p.out_row + first_column),
        partial_(static_cast<A*>(p.partial) + ((int64_t(split) * p.batch + batch) * p.M + first_row) * p.N + first_column),
        addend_(static_cast<const T*>(p.addend) + batch * p.addend_batch + first_row * p.addend_row +
                first_column * p.addend_column),
        addend_vectors_(p.addend_column == 1 && p.addend_row % kCount == 0 && is_aligned(addend_)),
        vectors(p.N % kCount == 0 && (p.partial || (p.out_row % kCount == 0 && is_aligned(out_)))) {}

  __device__ bool activates() const { return p_.activation && !p_.partial; }

  __device__ __forceinline__ A finished(int row, int column, A value) const {
    if (p_.partial || row >= rows_ || column >= columns_) return value;
    return finished_sum<T>(p_, batch_, first_row_ + row, first_column_ + column, value);
  }

  __device__ __forceinline__ void store(int row, int column, A value) const {
    if (row >= rows_ || column >= columns_) return;
    if (p_.partial) {
      partial_[row * p_.N + column] = value;
    } else {
      out_[row * p_.out_row + column] = Convert<T>::from(value);
    }
  }

  __device__ __forceinline__ void store_vector(int row, int column, A (&values)[kCount]) const {
    if (row >= rows_ || column >= columns_) return;
    if (p_.partial) return store_sums(partial_ + row * p_.N + column, values);
    if (p_.addend && !p_.activation) {
      const T* const from = addend_ + row * p_.addend_row + column * p_.addend_column;
      Vector<T> addends;
      if (addend_vectors_) {
        addends = *reinterpret_cast<const Vector<T>*>(from);
      } else {
#pragma unroll
        for (int e = 0; e < kCount; ++e) addends.value[e] = from[e * p_.addend_column];
      }
#pragma unroll
      for (int e = 0; e < kCount; ++e) values[e] += to_float(addends.value[e]);
    }
    store_rounded(out_ + row * p_.out_row + column, values);
  }

 private:
  static constexpr int kMost = 1 << 20;  // more than a tile has

  const GemmParams& p_;
  int64_t batch_, first_row_, first_column_;
  int rows_, columns_;  // from there on
  T* out_;
  A* partial_;
  const T* addend_;
  bool addend_vectors_;

 public:
  const bool vectors;
};

}  // namespace blackwell_compat
