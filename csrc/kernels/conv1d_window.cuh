// Windows of a convolution's input in shared memory: a line a position, kGemmDepthBytes of channels in each.
#pragma once
#include "kernels/activation.cuh"
#include "kernels/conv1d.cuh"
#include "kernels/gemm_load.cuh"

namespace blackwell_compat {

// How the taps of a phase share windows. Those that leave the same remainder by `share` are neighbours; there is one more of
// them for the first remainders.
struct WindowTaps {
  struct Taps {
    int first, count;  // every share-th from there on
  };

  __device__ WindowTaps(const Conv1dParams& p, int taps)
      : p_(p),
        least_(taps / p.share),
        longer_(taps % p.share),
        windows_((least_ + p.window_taps - 1) / p.window_taps),
        windows_of_longer_((least_ + p.window_taps) / p.window_taps) {}

  __device__ int count() const { return longer_ * windows_of_longer_ + (p_.share - longer_) * windows_; }

  __device__ Taps at(int window) const {
    const int behind = window - longer_ * windows_of_longer_;
    const int remainder = behind < 0 ? window / windows_of_longer_ : longer_ + behind / windows_;
    const int begin = (behind < 0 ? window % windows_of_longer_ : behind % windows_) * p_.window_taps;
    return {remainder + begin * p_.share, min(p_.window_taps, least_ + (behind < 0) - begin)};
  }

 private:
  const Conv1dParams& p_;
  int least_, longer_, windows_, windows_of_longer_;
};

// This thread's part of some lines of a window. start() sets out for them, finish() belongs after the arithmetic that the way
// takes. Outside of the input there are zeros, which every activation keeps.
template <typename T, int kThreads>
class WindowLoader {
  static constexpr int kPiece = 16 / sizeof(T), kLine = TileShape<T, 1, Order::kAlongK>::kLine;
  static constexpr int kPiecesOfLine = kGemmDepthBytes / 16, kLinesAtOnce = kThreads / kPiecesOfLine;
  static constexpr int kHeld = 2;  // pieces that wait in registers

 public:
  // `from`: the first channel of the chunk at position 0; `channels`: how many there are from there on; `position`: of line 0
  __device__ WindowLoader(const Conv1dParams& p, T* window, const T* from, int channels, int64_t position, int first, int last)
      : p_(p),
        along_((p.input_channel == 1 ? threadIdx.x % kPiecesOfLine : threadIdx.x / kLinesAtOnce) * kPiece),
        first_(first + (p.input_channel == 1 ? threadIdx.x / kPiecesOfLine : threadIdx.x % kLinesAtOnce)),
        last_(last),
        channels_(channels - along_),
        position_(position),
        from_(from + along_ * p.input_channel),
        window_(window + along_) {}

  __device__ __forceinline__ void start() {
    if (is_async()) {
      for (int line = first_; line < last_; line += kLinesAtOnce) {
        const int64_t position = position_ + int64_t(line) * p_.stride;
        const bool valid = is_there(position) && channels_ > 0;
        async_copy_16(window_ + line * kLine, valid ? from_ + position * p_.input_position : static_cast<const T*>(p_.input),
                      valid);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        if (first_ + i * kLinesAtOnce < last_) held_[i] = fetched(first_ + i * kLinesAtOnce);
      }
    }
  }

  __device__ __forceinline__ void finish() const {
    if (is_async()) return;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (first_ + i * kLinesAtOnce < last_) store(first_ + i * kLinesAtOnce, held_[i]);
    }
#pragma unroll 1
    for (int line = first_ + kHeld * kLinesAtOnce; line < last_; line += kLinesAtOnce) store(line, fetched(line));
    if (!p_.pre_activation) return;
#pragma unroll 1
    for (int line = first_; line < last_; line += kLinesAtOnce) {
#pragma unroll 1
      for (int e = 0; e < kPiece; ++e) {
        T& value = window_[line * kLine + e];
        value = Convert<T>::from(activated(to_float(value), p_.pre_activation, p_.pre_slope));
      }
    }
  }

 private:
  union Piece {
    uint4 whole;
    T element[kPiece];
  };

  __device__ bool is_async() const { return kArchitecture >= 800 && p_.vectors && !p_.pre_activation; }
  __device__ bool is_there(int64_t position) const { return position >= 0 && position < p_.in_length; }

  __device__ __forceinline__ uint4 fetched(int line) const {
    const int64_t position = position_ + int64_t(line) * p_.stride;
    const T* const source = from_ + position * p_.input_position;
    if (p_.vectors) {
      return is_there(position) && channels_ > 0 ? *reinterpret_cast<const uint4*>(source) : make_uint4(0, 0, 0, 0);
    }
    Piece gathered;
#pragma unroll
    for (int e = 0; e < kPiece; ++e) {
      gathered.element[e] = is_there(position) && e < channels_ ? source[e * p_.input_channel] : T{};
    }
    return gathered.whole;
  }

  __device__ __forceinline__ void store(int line, uint4 piece) const {
    *reinterpret_cast<uint4*>(window_ + line * kLine) = piece;
  }

  const Conv1dParams& p_;
  int along_, first_, last_, channels_;
  int64_t position_;
  const T* from_;
  T* window_;
  uint4 held_[kHeld];
};

}  // namespace blackwell_compat
