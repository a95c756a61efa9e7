// Windows of a convolution's input in shared memory: a line a position, kGemmDepthBytes of channels in each.
#pragma once
#include "kernels/activation.cuh"
#include "kernels/conv1d_store.cuh"
#include "kernels/gemm_load.cuh"

namespace blackwell_compat {

// A window of the input and the taps that share it, one window after the other. Taps that leave the same remainder by `share` are
// neighbours; there is one more of them for the first remainders.
template <int kDepth>
class Window {
 public:
  // Of how many windows a chunk of channels consists
  static __device__ int of_chunk(const Conv1dParams& p, int taps) {
    const int least = taps / p.share, longer = taps % p.share;
    return longer * divided_up(least + 1, p.window_taps) + (p.share - longer) * divided_up(least, p.window_taps);
  }

  __device__ Window(const Conv1dParams& p, int taps, int number)
      : channel(number / of_chunk(p, taps) * kDepth),
        first(0),
        p_(p),
        taps_(taps),
        remainder_(0),
        left_(divided_up(taps, p.share)) {
    for (int i = number % of_chunk(p, taps); i > 0; --i) advance();
  }

  __device__ __forceinline__ void advance() {
    first += p_.share * p_.window_taps;
    left_ -= p_.window_taps;
    if (left_ > 0) return;
    if (++remainder_ == min(p_.share, taps_)) remainder_ = 0, channel += kDepth;
    first = remainder_;
    left_ = divided_up(taps_ - remainder_, p_.share);
  }

  __device__ __forceinline__ int count() const { return min(left_, p_.window_taps); }

  int channel;  // the first of its chunk
  int first;    // tap, of those of the phase; then every share-th

 private:
  const Conv1dParams& p_;
  const int taps_;
  int remainder_, left_;
};

// Taps in the order in which windows have them
template <int kDepth>
class Tap {
 public:
  __device__ Tap(const Conv1dParams& p, int taps, const Window<kDepth>& window)
      : channel(window.channel), tap(window.first), p_(p), taps_(taps), remainder_(window.first % p.share) {}

  __device__ __forceinline__ void advance() {
    tap += p_.share;
    if (tap < taps_) return;
    if (++remainder_ == min(p_.share, taps_)) remainder_ = 0, channel += kDepth;
    tap = remainder_;
  }

  int channel, tap;

 private:
  const Conv1dParams& p_;
  const int taps_;
  int remainder_;
};

// This thread's part of the lines of a window. start() sets out for some of them, finish() belongs after the arithmetic that the
// way takes. Outside of the input there are zeros, which every activation keeps.
template <typename T, int kThreads>
class WindowLoader {
  using Shape = TileShape<T, 1, Order::kAlongK>;
  static constexpr int kPiece = Shape::kPiece, kLine = Shape::kLine, kLinesAtOnce = kThreads / Shape::kPiecesOfLine;
  static constexpr int kHeld = 2;  // pieces that wait in registers

 public:
  // `from`: the first channel of the chunk at position 0; `channels`: how many there are from there on; `position`: of line 0
  __device__ WindowLoader(const Conv1dParams& p, T* window, const T* from, int channels, int64_t position)
      : p_(p),
        line_(p.input_channel == 1 ? Shape::line() : threadIdx.x % kLinesAtOnce),
        channels_(channels - along()),
        position_(position),
        from_(from + along() * p.input_channel),
        window_(window + along()) {}

  // Lines from `first` up to `last`
  __device__ __forceinline__ void start(int first, int last) {
    first_ = first + line_, last_ = last;
    if (is_async()) {
      int64_t position = position_ + int64_t(first_) * p_.stride;
      const T* source = from_ + position * p_.input_position;
      const int64_t step = int64_t(kLinesAtOnce) * p_.stride;
#pragma unroll 1
      for (int line = first_; line < last_; line += kLinesAtOnce) {
        async_copy_16(window_ + line * kLine, source, is_there(position) && channels_ > 0);
        position += step;
        source += step * p_.input_position;
      }
      if (p_.pre_activation) async_commit();
    } else {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        if (first_ + i * kLinesAtOnce < last_) held_[i] = fetched(first_ + i * kLinesAtOnce);
      }
    }
  }

  __device__ __forceinline__ void finish() const {
    if (!is_async()) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        if (first_ + i * kLinesAtOnce < last_) at(first_ + i * kLinesAtOnce) = held_[i];
      }
#pragma unroll 1
      for (int line = first_ + kHeld * kLinesAtOnce; line < last_; line += kLinesAtOnce) at(line) = fetched(line);
    }
    if (!p_.pre_activation) return;
    async_wait<0>();
#pragma unroll 1
    for (int line = first_; line < last_; line += kLinesAtOnce) {
      if (p_.pre_activation <= kShortActivations) {
        clip(line);
      } else {
#pragma unroll 1
        for (int e = 0; e < kPiece; ++e) {
          T& value = window_[line * kLine + e];
          value = Convert<T>::from(activated(to_float(value), p_.pre_activation, p_.pre_slope));
        }
      }
    }
  }

 private:
  static constexpr int kShortActivations = 2;  // relu and leaky_relu, whose code is so short that each element has its own

  union Piece {
    uint4 whole;
    T element[kPiece];
  };

  __device__ int along() const { return (p_.input_channel == 1 ? Shape::along() : int(threadIdx.x / kLinesAtOnce) * kPiece); }
  __device__ bool is_async() const { return kArchitecture >= 800 && p_.vectors; }
  __device__ bool is_there(int64_t position) const { return position >= 0 && position < p_.in_length; }
  __device__ uint4& at(int line) const { return *reinterpret_cast<uint4*>(window_ + line * kLine); }

  __device__ __forceinline__ uint4 fetched(int line) const {
    const int64_t position = position_ + int64_t(line) * p_.stride;
    const T* source = from_ + position * p_.input_position;
    if (kArchitecture < 800 && p_.vectors) {
      return is_there(position) && channels_ > 0 ? *reinterpret_cast<const uint4*>(source) : make_uint4(0, 0, 0, 0);
    }
    Piece gathered;
#pragma unroll
    for (int e = 0; e < kPiece; ++e) {
      gathered.element[e] = is_there(position) && e < channels_ ? *source : T{};
      source += p_.input_channel;
    }
    return gathered.whole;
  }

  __device__ __forceinline__ void clip(int line) const {
    using A = decltype(to_float(T{}));
    const A slope = p_.pre_activation == 1 ? A(0) : A(p_.pre_slope);
    Piece piece;
    piece.whole = at(line);
#pragma unroll
    for (int e = 0; e < kPiece; ++e) {
      const A x = to_float(piece.element[e]);
      if (x <= 0) piece.element[e] = Convert<T>::from(slope == 0 ? A(0) : x * slope);
    }
    at(line) = piece.whole;
  }

  const Conv1dParams& p_;
  const int line_, channels_;
  const int64_t position_;
  const T* const from_;
  T* const window_;
  int first_, last_;
  uint4 held_[kHeld];
};

}  // namespace blackwell_compat
