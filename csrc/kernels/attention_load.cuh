// Rows of queries, keys and values from global to shared memory.
#pragma once
#include "kernels/attention.cuh"
#include "kernels/platform.cuh"

namespace blackwell_compat {

// Where an element of a line of shared memory is: lines 16 bytes apart beyond their length
template <typename T, int kWidth_>
struct PaddedLines {
  static constexpr int kWidth = kWidth_, kPiece = 16 / sizeof(T), kSize = kWidth + kPiece;  // elements

  static __device__ __forceinline__ unsigned at(unsigned row, unsigned column) { return row * kSize + column; }
};

// Lines without a gap whose pieces of 16 bytes change places by the row, among 8, so that the same one of 8 rows lies in all
// banks
template <typename T, int kWidth_>
struct SwizzledLines {
  static constexpr int kWidth = kWidth_, kPiece = 16 / sizeof(T), kSize = kWidth, kGroup = 8 * kPiece;
  static_assert(kWidth % kGroup == 0, "whole groups");

  static __device__ __forceinline__ unsigned at(unsigned row, unsigned column) {
    return row * kSize + column / kGroup * kGroup + (column % kGroup ^ row % 8 * kPiece);
  }
};

// `rows` lines of which `valid` are there, and of those `width` columns; zeros elsewhere. `from(row)` is where a row begins.
// `threads` of them do it, this one as their `thread`-th. Done when async_wait says so.
template <class Lines, int threads, int rows, typename T, class From>
__device__ __forceinline__ void load_rows(T* shared, unsigned thread, From from, int64_t column_stride, int valid, int width,
                                          bool vectors) {
  constexpr int kPieces = Lines::kWidth / Lines::kPiece;
#pragma unroll 1
  for (unsigned piece = thread; piece < rows * kPieces; piece += threads) {
    const int row = piece / kPieces, column = piece % kPieces * Lines::kPiece;
    T* const to = shared + Lines::at(row, column);
    if (vectors) {
      const bool there = row < valid && column < width;
      async_copy_16(to, from(there ? row : 0) + (there ? column : 0), there);
    } else {
      const T* const source = from(row < valid ? row : 0);
#pragma unroll 1
      for (int e = 0; e < Lines::kPiece; ++e) {
        to[e] = row < valid && column + e < width ? source[(column + e) * column_stride] : T{};
      }
    }
  }
  async_commit();
}

// The same, `rows` at a time, of rows that lie `row_stride` apart, by fewer instructions where all are there
template <class Lines, int threads, int rows, typename T>
class Rows {
  static constexpr int kPieces = Lines::kWidth / Lines::kPiece, kRowsOfPass = threads / kPieces;
  static_assert(threads % kPieces == 0 && rows % kRowsOfPass == 0, "a thread has the same column of every pass");

 public:
  __device__ __forceinline__ Rows(unsigned thread, const T* first, int64_t row_stride, int64_t column_stride, int width,
                                  bool vectors)
      : thread_(thread),
        own_(first + thread / kPieces * row_stride + thread % kPieces * Lines::kPiece),
        first_(first),
        row_stride_(row_stride),
        column_stride_(column_stride),
        width_(width),
        vectors_(vectors) {}

  // Those from `first` on, of which `valid` are there
  __device__ __forceinline__ void load(T* shared, int first, int valid) const {
    const int64_t stride = row_stride_, at = first * stride;
    if (!vectors_ || valid < rows || width_ < Lines::kWidth) {
      const T* const source = first_ + at;
      load_rows<Lines, threads, rows>(
          shared, thread_, [&](int row) { return source + row * stride; }, column_stride_, valid, width_, vectors_);
      return;
    }
    const T* source = own_ + at;
#pragma unroll
    for (int pass = 0; pass < rows / kRowsOfPass; ++pass, source += kRowsOfPass * stride) {
      async_copy_16(shared + Lines::at(thread_ / kPieces + pass * kRowsOfPass, thread_ % kPieces * Lines::kPiece), source, true);
    }
    async_commit();
  }

 private:
  const unsigned thread_;
  const T *const own_, *const first_;
  const int64_t row_stride_, column_stride_;
  const int width_;
  const bool vectors_;
};

}  // namespace blackwell_compat
