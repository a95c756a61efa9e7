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

template <typename T, int kRows, Order order>
struct TileShape {
  static constexpr int kPiece = 16 / sizeof(T);  // elements that travel together
  static constexpr int kDepth = kGemmDepthBytes / sizeof(T);
  static constexpr bool kAcross = order == Order::kAlongRows;
  static constexpr int kLine = (kAcross ? kRows : kDepth) + kPiece;  // elements from one line in shared memory to the next
  static constexpr int kSize = (kAcross ? kDepth : kRows) * kLine;

  static __device__ __forceinline__ int at(int row, int k) { return kAcross ? k * kLine + row : row * kLine + k; }
};

// This thread's part of the tiles of one operand. start() sets out for one; finish() belongs after the arithmetic on the tile
// before: it stores what cards without asynchronous copies, and operands with strides, hold in registers until then.
template <typename T, int kRows, int kThreads, Order order>
class TileLoader {
  using Shape = TileShape<T, kRows, order>;
  static constexpr int kPiece = Shape::kPiece;
  static constexpr int kPiecesOfLine = (Shape::kAcross ? kRows : Shape::kDepth) / kPiece;
  static constexpr int kPieces = kRows * Shape::kDepth / kPiece / kThreads;
  static constexpr bool kHeld = order == Order::kStrided || kArchitecture < 800;

 public:
  // `from`: the first row of the tile at k = 0; `rows`: how many there are from there on
  __device__ TileLoader(const T* from, int64_t row_stride, int64_t k_stride, int64_t rows)
      : from_(from), row_stride_(row_stride), k_stride_(k_stride), rows_(rows < kRows ? static_cast<int>(rows) : kRows) {}

  __device__ __forceinline__ void start(T* shared, int64_t k, int64_t k_end) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int piece = threadIdx.x + i * kThreads;
      const int line = piece / kPiecesOfLine, along = piece % kPiecesOfLine * kPiece;
      const int row = Shape::kAcross ? along : line;
      const int64_t depth = k + (Shape::kAcross ? line : along);
      const T* const source = from_ + row * row_stride_ + depth * k_stride_;
      if constexpr (order == Order::kStrided) {
        Piece gathered;
#pragma unroll
        for (int e = 0; e < kPiece; ++e) {
          gathered.element[e] = row < rows_ && depth + e < k_end ? source[e * k_stride_] : T{};
        }
        held_[i] = gathered.whole;
      } else {
        const bool valid = row < rows_ && depth < k_end;
        if constexpr (kHeld) {
          held_[i] = valid ? *reinterpret_cast<const uint4*>(source) : make_uint4(0, 0, 0, 0);
        } else {
          async_copy_16(shared + line * Shape::kLine + along, valid ? source : from_, valid);
        }
      }
    }
  }

  __device__ __forceinline__ void finish(T* shared) const {
    if constexpr (kHeld) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const int piece = threadIdx.x + i * kThreads;
        *reinterpret_cast<uint4*>(shared + piece / kPiecesOfLine * Shape::kLine + piece % kPiecesOfLine * kPiece) = held_[i];
      }
    }
  }

 private:
  union Piece {
    uint4 whole;
    T element[kPiece];
  };

  const T* from_;
  int64_t row_stride_, k_stride_;
  int rows_;
  uint4 held_[kHeld ? kPieces : 1];
};

}  // namespace blackwell_compat
