// Tiles of an operand from global to shared memory, 16 bytes at a time.
#pragma once
#include "kernels/gemm.cuh"
#include "kernels/platform.cuh"

namespace blackwell_compat {

// How an operand lies: lines along K, lines along its rows, or by strides (then lines in shared memory run along K)
enum class Order { kAlongK, kAlongRows, kStrided };

constexpr Order order_of_a(GemmLayout layout) {
  return layout == GemmLayout::kAny ? Order::kStrided : layout == GemmLayout::kTN ? Order::kAlongRows : Order::kAlongK;
}
constexpr Order order_of_b(GemmLayout layout) {
  return layout == GemmLayout::kAny ? Order::kStrided : layout == GemmLayout::kNT ? Order::kAlongK : Order::kAlongRows;
}

// Two tiles in shared memory that are multiplied with each other
template <typename T>
struct Tiles {
  const T *a, *b;
};

struct tf32 {};  // float32 in memory

template <typename T>
struct Stored {
  using type = T;
};
template <>
struct Stored<tf32> {
  using type = float;
};

template <typename T, int kRows, Order order>
struct TileShape {
  static constexpr int kPiece = 16 / sizeof(T);  // elements that travel together
  static constexpr int kDepth = kGemmDepthBytes / sizeof(T);
  static constexpr bool kAcross = order == Order::kAlongRows;
  static constexpr int kLine = (kAcross ? kRows : kDepth) + gemm_pad_bytes(sizeof(T), !kAcross) / sizeof(T);  // in elements
  static constexpr int kSize = (kAcross ? kDepth : kRows) * kLine;

  static __device__ __forceinline__ int at(int row, int k) { return kAcross ? k * kLine + row : row * kLine + k; }

  // Which line and which piece of it this thread copies first. Eight threads, which write at once, have neighbouring pieces of a
  // line or, where lines are short, a piece of eight lines, which are 5 pieces apart
  static constexpr int kPiecesOfLine = (kAcross ? kRows : kDepth) / kPiece;
  static_assert(kAcross || kPiecesOfLine == 4);
  static __device__ __forceinline__ int line() {
    return kAcross ? threadIdx.x / kPiecesOfLine : threadIdx.x / 32 * 8 + threadIdx.x % 8;
  }
  static __device__ __forceinline__ int along() { return (kAcross ? threadIdx.x % kPiecesOfLine : threadIdx.x / 8 % 4) * kPiece; }
};

// This thread's part of the tiles of one operand. start() sets out for the one at seek()'s place, advance() goes on to the next;
// finish() belongs after the arithmetic on the tile before: it stores what cards without asynchronous copies, and operands with
// strides, hold in registers until then.
template <typename T, int kRows, int kThreads, Order order>
class TileLoader {
  using Shape = TileShape<T, kRows, order>;
  static constexpr int kPiece = Shape::kPiece;
  static constexpr int kPieces = kRows * Shape::kDepth / kPiece / kThreads, kLinesAtOnce = kThreads / Shape::kPiecesOfLine;
  static constexpr bool kHeld = order == Order::kStrided || kArchitecture < 800;
  static_assert(kLinesAtOnce * kPieces == (Shape::kAcross ? Shape::kDepth : kRows));

 public:
  // `from`: the first row of the tile at k = 0; `rows`: how many there are from there on
  __device__ TileLoader(const T* from, int64_t row_stride, int64_t k_stride, int64_t rows)
      : first_(from + (Shape::kAcross ? Shape::along() + Shape::line() * k_stride
                                      : Shape::line() * row_stride + Shape::along() * k_stride)),
        k_stride_(order == Order::kAlongK ? 1 : k_stride),
        line_stride_(kLinesAtOnce * (Shape::kAcross ? k_stride : row_stride)),
        rows_((rows < kRows ? static_cast<int>(rows) : kRows) - (Shape::kAcross ? Shape::along() : Shape::line())) {}

  // `left`: how much of K there is from k on, at most 2^30
  __device__ __forceinline__ void seek(int64_t k, int left) { seek_elements(k * k_stride_, left); }
  __device__ __forceinline__ void seek_elements(int64_t elements, int left) {
    from_ = first_ + elements;
    left_ = left - (Shape::kAcross ? Shape::line() : Shape::along());
  }
  __device__ __forceinline__ void advance() {
    from_ += Shape::kDepth * k_stride_;
    left_ -= Shape::kDepth;
  }

  __device__ __forceinline__ void start(T* shared) {
    const T* source = from_;
    T* const to = shared + Shape::line() * Shape::kLine + Shape::along();
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      if constexpr (order == Order::kStrided) {
        Piece gathered;
#pragma unroll
        for (int e = 0; e < kPiece; ++e) {
          gathered.element[e] = i * kLinesAtOnce < rows_ && e < left_ ? source[e * k_stride_] : T{};
        }
        held_[i] = gathered.whole;
      } else {
        const bool valid = (Shape::kAcross ? 0 : i * kLinesAtOnce) < rows_ && (Shape::kAcross ? i * kLinesAtOnce : 0) < left_;
        if constexpr (kHeld) {
          held_[i] = valid ? *reinterpret_cast<const uint4*>(source) : make_uint4(0, 0, 0, 0);
        } else {
          async_copy_16(to + i * kLinesAtOnce * Shape::kLine, source, valid);
        }
      }
      source += line_stride_;
    }
  }

  __device__ __forceinline__ void finish(T* shared) const {
    if constexpr (kHeld) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        *reinterpret_cast<uint4*>(shared + (Shape::line() + i * kLinesAtOnce) * Shape::kLine + Shape::along()) = held_[i];
      }
    }
  }

 private:
  union Piece {
    uint4 whole;
    T element[kPiece];
  };

  const T *first_, *from_;
  const int64_t k_stride_, line_stride_;
  const int rows_;  // from this thread's first on
  int left_;        // of K, the same
  uint4 held_[kHeld ? kPieces : 1];
};

}  // namespace blackwell_compat
