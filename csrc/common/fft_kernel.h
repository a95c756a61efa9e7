// The kernels of fft.h, compiled once per instruction set: the including file defines BC_ISA and kBytes, the width of a vector.
#pragma once
#include "common/fft_passes.h"
#include "common/fft_rows.h"

namespace blackwell_compat::fft::BC_ISA {

// Reads windowed samples; two make a point of an even plan.
template <typename T, bool kEven>
struct Samples {
  const T* samples;
  const int32_t* offset;
  const T* window;

  BC_INLINE Vec<T> sample(int64_t n) const { return load<T>(samples + offset[n]) * window[n]; }
  BC_INLINE Complex<T> operator()(int64_t i) const {
    if constexpr (kEven) return {sample(2 * i), sample(2 * i + 1)};
    return {sample(i), Vec<T>{}};
  }
};

// A few neighbouring bins of kLanes frames on their way to memory, where the bins of a frame lie side by side.
template <typename T>
struct Tile {
  static constexpr int64_t kBins = kLanes<T> / 2;

  T values[kLanes<T>][kLanes<T>] = {};

  BC_INLINE void set(int64_t bin, const Complex<T>& value) {
    store<T>(values[2 * bin], value.re);
    store<T>(values[2 * bin + 1], value.im);
  }

  BC_INLINE void write(int64_t bins, int64_t frames, T* out, int64_t row) const {
    Vec<T> rows[kLanes<T>];
    BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) rows[i] = load<T>(values[i]);
    transpose<T>(rows);
    if (bins == kBins && frames == kLanes<T>) {
      BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) store<T>(out + i * row, rows[i]);
      return;
    }
    BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) {
      if (i < frames) store_some(out + i * row, 2 * bins, rows[i]);
    }
  }
};

// Bins k and size - k from the transform of pairs of samples: s + u and conj(s - u).
template <typename T>
BC_INLINE std::pair<Complex<T>, Complex<T>> unpair(const Complex<T>& z, const Complex<T>& mirrored, T cos, T sin) {
  const Complex<T> s = z + mirrored.conj(), u = (z - mirrored.conj()).times(-sin, -cos);
  return {s + u, (s - u).conj()};
}

template <typename T>
BC_INLINE void write_bins(const Plan<T>& plan, const T* x, T edge, int64_t frames, T* out) {
  const int64_t bins = plan.bins(), row = 2 * bins, size = plan.size;
  const auto at_place = [&](int64_t k) { return load_point(x + 2 * kLanes<T> * plan.place[k]); };
  Tile<T> up, down;
  if (!plan.even()) {
    for (int64_t first = 0; first < bins; first += up.kBins) {
      const int64_t count = bins - first < up.kBins ? bins - first : up.kBins;
      for (int64_t c = 0; c < count; ++c) up.set(c, at_place(first + c));
      if (first == 0) up.set(0, {at_place(0).re * edge, Vec<T>{}});
      up.write(count, frames, out + 2 * first, row);
    }
    return;
  }
  const int64_t ups = size / 2 + 1, downs = bins - ups;  // bins 0 to size / 2, and those above in falling order
  for (int64_t first = 0; first < ups; first += up.kBins) {
    const int64_t n_up = ups - first < up.kBins ? ups - first : up.kBins;
    const int64_t n_down = downs - first < up.kBins ? downs - first : up.kBins;
    for (int64_t c = 0; c < n_up; ++c) {
      const int64_t k = first + c;
      auto [low, high] = unpair(at_place(k), at_place(k == 0 ? 0 : size - k), plan.turn[2 * k], plan.turn[2 * k + 1]);
      if (k == 0) low = {low.re * edge, Vec<T>{}}, high = {high.re * edge, Vec<T>{}};  // not -0: angle() would show it
      up.set(c, low);
      if (c < n_down) down.set(n_down - 1 - c, high);
    }
    up.write(n_up, frames, out + 2 * first, row);
    if (n_down > 0) down.write(n_down, frames, out + 2 * (size - first - n_down + 1), row);
  }
}

template <typename T>
void analyse(const Plan<T>& plan, const Analysis<T>& job) {
  Ahead nothing;
  for (int64_t t = 0; t < job.count; t += kLanes<T>) {
    if (plan.even()) {
      transform(plan, Samples<T, true>{job.samples + t, job.offset, job.window}, job.work, nothing);
    } else {
      transform(plan, Samples<T, false>{job.samples + t, job.offset, job.window}, job.work, nothing);
    }
    const int64_t frames = job.count - t < kLanes<T> ? job.count - t : kLanes<T>;
    write_bins(plan, job.work, job.edge, frames, job.out + 2 * plan.bins() * t);
  }
}

// Bins of frames that lie side by side in memory.
template <typename T>
struct Neighbours {
  const T* spectrum;
  int64_t bin_stride;

  BC_INLINE Complex<T> operator()(int64_t k) const {
    const T* from = spectrum + k * bin_stride;
    return separate<T>(load<T>(from), load<T>(from + kLanes<T>), std::make_integer_sequence<int, kLanes<T>>());
  }
};

// Frames t to t + frames of the spectrum as points; lanes beyond are zero.
template <typename T>
BC_INLINE void gather(const Synthesis<T>& job, int64_t t, int64_t frames, int64_t bins, T* x) {
  const T* from = job.spectrum + t * job.frame_stride;
  constexpr int64_t kTile = kLanes<T> / 2;
  if (job.bin_stride == 2 && bins >= kTile) {
    for (int64_t next = 0; next < bins; next += kTile) {
      const int64_t k = next + kTile <= bins ? next : bins - kTile;  // the last tile overlaps the one before
      Vec<T> rows[kLanes<T>];
      BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) rows[i] =
          i < frames ? load<T>(from + i * job.frame_stride + 2 * k) : Vec<T>{};
      transpose<T>(rows);
      BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) store<T>(point(x, k) + i * kLanes<T>, rows[i]);
    }
    return;
  }
  for (int64_t k = 0; k < bins; ++k) {
    T* to = point(x, k);
    for (int64_t i = 0; i < kLanes<T>; ++i) {
      const T* value = from + k * job.bin_stride + i * job.frame_stride;
      to[i] = i < frames ? value[0] : 0;
      to[kLanes<T> + i] = i < frames ? value[1] : 0;
    }
  }
}

// A spectrum as the points whose forward transform is the inverse transform with real and imaginary parts exchanged.
template <typename T, typename Source>
__attribute__((noinline)) void prepare(const Plan<T>& plan, const Source& bin, T edge, T* x) {
  const auto put = [&](int64_t i, const Complex<T>& value) { store_point(point(x, i), Complex<T>{value.im, value.re}); };
  const int64_t size = plan.size;
  const Vec<T> none{};
  if (!plan.even()) {
    for (int64_t k = plan.bins() - 1; k > 0; --k) {
      const Complex<T> value = bin(k);
      put(k, value);
      put(size - k, value.conj());
    }
    return put(0, {bin(0).re * edge, none});
  }
  const Vec<T> first = bin(0).re * edge, last = bin(size).re * edge;
  for (int64_t k = 1; 2 * k <= size; ++k) {
    const Complex<T> low = bin(k), high = bin(size - k).conj();
    const Complex<T> s = low + high, u = (low - high).times(-plan.turn[2 * k + 1], plan.turn[2 * k]);
    put(k, s + u);
    put(size - k, (s - u).conj());
  }
  put(0, {first + last, first - last});
}

// What the frames after those from t on are read from, and where the rows from t on go.
template <typename T>
BC_INLINE void look_ahead(const Plan<T>& plan, const Synthesis<T>& job, int64_t t, Ahead& ahead) {
  constexpr int64_t kWide = 256, kGroups = kWide / (2 * kBytes);  // bytes of a bin's values, and the groups of frames they are
  const int64_t next = t + kLanes<T>, later = t + kGroups * kLanes<T>;
  ahead.read_nothing();
  if (job.frame_stride == 2) {
    if (t / kLanes<T> % kGroups == 0 && later < job.count) {
      ahead.read(job.spectrum + 2 * later, plan.bins(), job.bin_stride, kWide);
    }
  } else if (job.bin_stride == 2 && next < job.count) {
    ahead.read(job.spectrum + next * job.frame_stride, kLanes<T> * job.frame_stride);
  }
  ahead.write(job.to[t], are_together(job, t) ? kLanes<T> * job.hop : 0);
}

template <typename T>
void synthesise(const Plan<T>& plan, const Synthesis<T>& job) {
  T* const x = job.work;
  Rows<T> rows(plan, job);
  Ahead ahead(plan);
  for (int64_t t = 0; t < job.rows; t += kLanes<T>) {
    const int64_t frames = job.count - t < kLanes<T> ? job.count - t : kLanes<T>;
    if (frames > 0) {
      look_ahead(plan, job, t, ahead);
      if (job.frame_stride == 2 && frames == kLanes<T>) {
        prepare(plan, Neighbours<T>{job.spectrum + 2 * t, job.bin_stride}, job.edge, x);
      } else {
        gather(job, t, frames, plan.bins(), x);
        prepare(plan, InPlace<T>{x}, job.edge, x);
      }
      transform(plan, InPlace<T>{x}, x, ahead);
    }
    rows.finish(t);
  }
}

template <typename T>
constexpr Kernels<T> table() {
  return {kLanes<T>, analyse<T>, synthesise<T>};
}

}  // namespace blackwell_compat::fft::BC_ISA
