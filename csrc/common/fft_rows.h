// The end of a synthesis: frames of fft_passes.h times the window, added up to rows, which turn from lanes to memory.
#pragma once
#include "common/fft.h"
#include "common/fft_vector.h"

namespace blackwell_compat::fft::BC_ISA {

// Whether rows t to t + kLanes go to one piece of memory.
template <typename T>
BC_INLINE bool are_together(const Synthesis<T>& job, int64_t t) {
  const int64_t last = t + kLanes<T> - 1;
  return last < job.rows && job.to[last] == job.to[t] + (kLanes<T> - 1) * job.hop;
}

// The sums of rows, kLanes of them side by side, that wait for frames still to come. A ring.
template <typename T>
class Waiting {
 public:
  Waiting(const Plan<T>& plan, const Synthesis<T>& job)
      : sums_(job.work + work_size(plan)), hop_(job.hop), groups_(rows_waiting(plan, job.hop)) {
    for (int64_t i = 0; i < groups_ * hop_ * kLanes<T>; ++i) sums_[i] = 0;
  }

  BC_INLINE int64_t groups() const { return groups_; }
  BC_INLINE T* operator()(int64_t group, int64_t sample) const {
    const int64_t slot = first_ + group;
    return sums_ + ((slot < groups_ ? slot : slot - groups_) * hop_ + sample) * kLanes<T>;
  }
  BC_INLINE void advance() { first_ = first_ + 1 < groups_ ? first_ + 1 : 0; }

 private:
  T* const sums_;
  const int64_t hop_, groups_;
  int64_t first_ = 0;
};

// From samples of kLanes rows to the rows, one after the other, where they are at most half a vector long: value q of these is
// sample q % hop of row q / hop.
template <typename T>
class ShortRows {
 public:
  static constexpr int kMost = kLanes<T> / 2, kPairs = (kMost + 1) / 2;

  explicit ShortRows(int64_t hop) : hop_(hop) {
    int64_t sample = 0, row = 0;
    for (int64_t q = 0; q < hop * kLanes<T>; ++q) {
      Index(&from)[kLanes<T>] = from_[q / kLanes<T>][sample / 2], (&taken)[kLanes<T>] = taken_[q / kLanes<T>][sample / 2];
      from[q % kLanes<T>] = static_cast<Index>(sample % 2 * kLanes<T> + row);
      taken[q % kLanes<T>] = -1;
      if (++sample == hop) sample = 0, ++row;
    }
  }

  BC_INLINE void write(const T (&samples)[kLanes<T>][kLanes<T>], const T* factor, T* to) {
    if (factor != factor_) repeat(factor);
    for (int part = 0; part < kMost && part < hop_; ++part) {
      Vec<T> value{};
      for (int two = 0; two < kPairs && 2 * two < hop_; ++two) {
        const Mask from = load_mask(from_[part][two]), taken = load_mask(taken_[part][two]);
        value = taken ? __builtin_shuffle(load<T>(samples[2 * two]), load<T>(samples[2 * two + 1]), from) : value;
      }
      store<T>(to + part * kLanes<T>, value * load<T>(factors_ + part * kLanes<T>));
    }
  }

 private:
  using Mask = typename Lanes<T>::Mask;
  using Index = typename Lanes<T>::Index;

  BC_INLINE static Mask load_mask(const Index* from) { return *reinterpret_cast<const Mask*>(from); }

  void repeat(const T* factor) {
    factor_ = factor;
    int64_t r = 0;
    for (T& value : factors_) {
      value = factor[r];
      r = r + 1 < hop_ ? r + 1 : 0;
    }
  }

  const int64_t hop_;
  alignas(kBytes) Index from_[kMost][kPairs][kLanes<T>] = {}, taken_[kMost][kPairs][kLanes<T>] = {};
  T factors_[kMost * kLanes<T>];
  const T* factor_ = nullptr;  // that factors_ are of
};

template <typename T>
class Rows {
 public:
  Rows(const Plan<T>& plan, const Synthesis<T>& job)
      : plan_(plan), job_(job), waiting_(plan, job), short_rows_(job.hop <= ShortRows<T>::kMost ? job.hop : 0) {}

  // Rows t to t + kLanes, to which the frames of the same numbers are the last to add, go to their places. The frames are in
  // job.work, and so are parts of later rows.
  __attribute__((noinline)) void finish(int64_t t) {
    const int64_t count = job_.rows - t < kLanes<T> ? job_.rows - t : kLanes<T>;
    T* const* to = job_.to + t;
    const T* const* factor = job_.factor + t;
    for (int64_t first = 0; first < job_.hop; first += kLanes<T>) {
      const int64_t wide = job_.hop - first < kLanes<T> ? job_.hop - first : kLanes<T>;
      add_up(t < job_.count ? plan_.n_fft : 0, first, wide);
      if (wide <= ShortRows<T>::kMost && wide == job_.hop && are_together(job_, t) && factor[0] == factor[kLanes<T> - 1]) {
        short_rows_.write(samples_, factor[0], to[0]);
      } else {
        write(first, wide, count, factor, to);
      }
    }
    waiting_.advance();
  }

 private:
  BC_INLINE void add_up(int64_t n_fft, int64_t first, int64_t wide) {
    constexpr int kTogether = 4;
    const int64_t rest = plan_.n_fft % job_.hop;
    for (int64_t i = 0; i < wide;) {
      const int64_t r = first + i;
      if (i + kTogether <= wide && (r + kTogether <= rest || r >= rest)) {  // as many frames add to each of them
        add_up<kTogether>(n_fft, r, samples_ + i);
        i += kTogether;
      } else {
        add_up<1>(n_fft, r, samples_ + i++);
      }
    }
  }

  // Samples r to r + kCount of kLanes rows. A frame's sample n is in the row n / hop further on.
  template <int kCount>
  BC_INLINE void add_up(int64_t n_fft, int64_t r, T (*to)[kLanes<T>]) {
    Vec<T> sum[kCount];
    BC_UNROLL for (int i = 0; i < kCount; ++i) sum[i] = load<T>(waiting_(0, r + i));
    int64_t n = r;
    for (int64_t group = 1; group <= waiting_.groups(); ++group) {
      Vec<T> next[kCount];
      BC_UNROLL for (int i = 0; i < kCount; ++i) next[i] = group < waiting_.groups() ? load<T>(waiting_(group, r + i)) : Vec<T>{};
      if (n < n_fft) {
        BC_UNROLL for (int i = 0; i < kCount; ++i) sum[i] += frames(n + i) * job_.window[n + i];
        n += job_.hop;
      }
      for (int shift = 1; shift < kLanes<T> && n < n_fft; ++shift, n += job_.hop) {
        const Turn<T> turn(shift);
        BC_UNROLL for (int i = 0; i < kCount; ++i) {
          const Vec<T> value = turn(frames(n + i));
          sum[i] = turn.stays ? sum[i] + value * job_.window[n + i] : sum[i];
          next[i] = turn.stays ? next[i] : next[i] + value * job_.window[n + i];
        }
      }
      BC_UNROLL for (int i = 0; i < kCount; ++i) {
        store<T>(group == 1 ? to[i] : waiting_(group - 1, r + i), sum[i]);
        sum[i] = next[i];
      }
    }
    BC_UNROLL for (int i = 0; i < kCount; ++i) store<T>(waiting_(waiting_.groups(), r + i), sum[i]);
  }

  BC_INLINE Vec<T> frames(int64_t n) const { return load<T>(job_.work + plan_.sample[n]); }

  // Samples `first` to `first + wide` of `count` rows.
  BC_INLINE void write(int64_t first, int64_t wide, int64_t count, const T* const* factor, T* const* to) {
    Vec<T> rows[kLanes<T>];
    BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) rows[i] = load<T>(samples_[i]);
    transpose<T>(rows);
    if (wide == kLanes<T> && count == kLanes<T>) {
      BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) store<T>(to[i] + first, rows[i] * load<T>(factor[i] + first));
      return;
    }
    BC_UNROLL for (int i = 0; i < kLanes<T>; ++i) {
      if (i < count) store_some(to[i] + first, wide, rows[i] * load<T>(factor[i] + first));
    }
  }

  const Plan<T>& plan_;
  const Synthesis<T>& job_;
  Waiting<T> waiting_;
  ShortRows<T> short_rows_;
  alignas(kBytes) T samples_[kLanes<T>][kLanes<T>] = {};
};

}  // namespace blackwell_compat::fft::BC_ISA
