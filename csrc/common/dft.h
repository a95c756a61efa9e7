// What the short-time transforms share: how their loops are compiled, vectors, and the cosines and sines of a transform.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

// Two versions of a loop, chosen at run time: with fused multiply-add, and for any x86. Elsewhere there is one.
#if defined(__x86_64__)
#define BC_FMA_CLONES __attribute__((target_clones("fma", "default")))
#else
#define BC_FMA_CLONES
#endif

// A loop with a constant count over vectors in registers: as a loop they would live in memory.
#define BC_UNROLL _Pragma("GCC unroll 16")

namespace blackwell_compat {

// Vectors of GCC and Clang: AVX on x86, NEON elsewhere. Slots are the same anywhere in memory.
template <typename T>
struct Lanes {
  typedef T Vec __attribute__((vector_size(32)));
  typedef T Slot __attribute__((vector_size(32), aligned(alignof(T)), may_alias));
  static constexpr int64_t kCount = 32 / sizeof(T);
};

template <typename T>
inline __attribute__((always_inline)) typename Lanes<T>::Slot& slot(T* at) {
  return *reinterpret_cast<typename Lanes<T>::Slot*>(at);
}

template <typename T>
inline __attribute__((always_inline)) const typename Lanes<T>::Slot& slot(const T* at) {
  return *reinterpret_cast<const typename Lanes<T>::Slot*>(at);
}

// Frames that the FFT library gets at once: 512 KiB of samples, less where that would make fewer than four blocks. Of the
// sizes alone, so that the result does not depend on the number of threads.
inline int64_t block_frames(int64_t n_fft, int64_t n_frames, int64_t sample_bytes) {
  const int64_t fit = (512 << 10) / (n_fft * sample_bytes), quarter = std::max<int64_t>(16, (n_frames + 3) / 4);
  return std::clamp<int64_t>(std::min(fit, quarter), 1, 512);
}

// cos and sin of 2 pi i / n_fft for i < n_fft, exact where the value is 0, 1 or -1.
struct Circle {
  std::vector<double> cos, sin;

  explicit Circle(int64_t n_fft) : cos(n_fft), sin(n_fft) {
    for (int64_t i = 0; i < n_fft; ++i) {
      const double angle = 2 * M_PI * static_cast<double>(i) / static_cast<double>(n_fft);
      cos[i] = 4 * i == n_fft || 4 * i == 3 * n_fft ? 0 : std::cos(angle);
      sin[i] = 2 * i == n_fft ? 0 : std::sin(angle);
    }
  }
};

}  // namespace blackwell_compat
