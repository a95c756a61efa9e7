// istft_fp32 on the CPU. A block is a range of output rows (hop samples each): it transforms the frames that reach it and adds
// them in the order of time, so blocks need nothing of each other and the result is the same for any number of threads.
#include <ATen/Parallel.h>
#include <c10/util/irange.h>

#include <cstring>

#include "common/dft.h"
#include "common/transpose.h"
#include "ops/istft/istft.h"

namespace blackwell_compat {
namespace {

constexpr int64_t kLargestDirect = 96;  // n_fft: above it the FFT library is quicker
constexpr int64_t kDirectRows = 128;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Row h of the overlap-added signal is its samples [h * hop, (h + 1) * hop); frames h - reach + 1 to h are added there.
struct Rows {
  int64_t n_fft, hop, n_frames;
  int64_t start, length;  // samples kept, from the first sample of the first frame

  int64_t reach() const { return ceil_div(n_fft, hop); }
  int64_t first() const { return start / hop; }
  int64_t last() const { return ceil_div(start + length, hop); }
};

// 1 / (the sum of the squared window over frames), row by row: rows that all their frames reach are equal.
template <typename T>
class InverseEnvelope {
 public:
  // All ones
  explicit InverseEnvelope(const Rows& rows) : rows_(rows), inner_(rows.hop, 1), all_equal_(true) {}

  InverseEnvelope(const Rows& rows, const T* window) : rows_(rows), inner_(rows.hop), all_equal_(false) {
    const int64_t edge = rows.reach() - 1, n_frames = rows.n_frames;
    head_.resize(std::min(edge, n_frames) * rows.hop);
    tail_.resize(edge * rows.hop);
    for (const auto h : c10::irange(std::min(edge, n_frames))) fill(h, window, h, h + 1, head_.data() + h * rows.hop);
    for (const auto h : c10::irange(edge))
      fill(n_frames + h, window, n_frames + h, n_frames + h + 1, tail_.data() + h * rows.hop);
    if (n_frames > edge) fill(edge, window, edge, n_frames, inner_.data());
  }

  bool inner(int64_t h) const { return all_equal_ || (h >= rows_.reach() - 1 && h < rows_.n_frames); }

  const T* row(int64_t h) const {
    if (inner(h)) return inner_.data();
    return h < rows_.n_frames ? head_.data() + h * rows_.hop : tail_.data() + (h - rows_.n_frames) * rows_.hop;
  }

 private:
  // Row h, which stands for rows [from, to): the samples of these that are kept have to have a sum.
  void fill(int64_t h, const T* window, int64_t from, int64_t to, T* inverse) const {
    const int64_t hop = rows_.hop, kept_from = rows_.start, kept_to = rows_.start + rows_.length;
    for (const auto r : c10::irange(hop)) {
      double sum = 0;
      for (int64_t t = std::max<int64_t>(0, h - rows_.reach() + 1); t <= std::min(h, rows_.n_frames - 1); ++t) {
        const int64_t n = (h - t) * hop + r;
        if (n < rows_.n_fft) sum += static_cast<double>(window[n]) * static_cast<double>(window[n]);
      }
      inverse[r] = static_cast<T>(1 / sum);
      const int64_t begin = std::max(from, ceil_div(kept_from - r, hop)), end = std::min(to, ceil_div(kept_to - r, hop));
      BC_CHECK("istft_fp32", begin >= end || !(sum < 1e-11),
               "window overlap add min: 1; the frames leave samples that no window reaches");
    }
  }

  const Rows rows_;
  std::vector<T> inner_, head_, tail_;
  const bool all_equal_;
};

template <typename T>
struct Job {
  const Tensor& spectrum;  // (B, bins, frames)
  const T* window;
  const Rows& rows;
  const InverseEnvelope<T>& inverse;
  T edge;
  T* out;

  int64_t bins() const { return rows.n_fft / 2 + 1; }
};

// Frames [from, to) of sample b, as rows of bins.
template <typename T>
Tensor load(const Job<T>& job, int64_t b, int64_t from, int64_t to) {
  const Tensor view = job.spectrum.select(0, b).narrow(1, from, to - from).t();
  if (view.stride(1) == 1 && job.edge == 1) return view;
  // Rows an odd number of cache lines apart do not fall into the same few sets of the cache
  const int64_t apart = (ceil_div(job.bins(), 8) | 1) * 8;
  const Tensor block = at::empty({to - from, apart}, view.options()).narrow(1, 0, job.bins());
  if (sizeof(T) == 4 && view.stride(0) == 1) {
    transpose(static_cast<const uint64_t*>(view.const_data_ptr()), view.stride(1), job.bins(), to - from,
              static_cast<uint64_t*>(block.data_ptr()), apart);
  } else {
    block.copy_(view);
  }
  if (job.edge != 1) {
    block.select(1, 0).mul_(job.edge);
    if (job.rows.n_fft % 2 == 0) block.select(1, -1).mul_(job.edge);
  }
  return block;
}

// Row h of the result: frames `oldest` to `newest`, of which `frames` holds those from `first` on.
template <typename T>
inline __attribute__((always_inline)) void overlap_add_row(const T* frames, int64_t first, const Rows& rows, int64_t h,
                                                           const T* window, const T* inverse, T* to) {
  const int64_t hop = rows.hop, oldest = std::max<int64_t>(0, h - rows.reach() + 1), newest = std::min(h, rows.n_frames - 1);
  for (int64_t r = 0; r < hop; ++r) to[r] = 0;
  for (int64_t t = oldest; t <= newest; ++t) {
    const int64_t offset = (h - t) * hop, count = std::min(hop, rows.n_fft - offset);
    const T *from = frames + (t - first) * rows.n_fft + offset, *w = window + offset;
    for (int64_t r = 0; r < count; ++r) to[r] += from[r] * w[r];
  }
  for (int64_t r = 0; r < hop; ++r) to[r] *= inverse[r];
}

BC_FMA_CLONES void overlap_add(const float* frames, int64_t first, const Rows& rows, int64_t h, const float* window,
                               const float* inverse, float* to) {
  overlap_add_row(frames, first, rows, h, window, inverse, to);
}

BC_FMA_CLONES void overlap_add(const double* frames, int64_t first, const Rows& rows, int64_t h, const double* window,
                               const double* inverse, double* to) {
  overlap_add_row(frames, first, rows, h, window, inverse, to);
}

// The part of row h that is kept, copied to its place.
template <typename T>
void store_row(const Rows& rows, int64_t h, const T* row, T* out) {
  const int64_t at = h * rows.hop - rows.start;
  const int64_t begin = std::max<int64_t>(0, -at), end = std::min(rows.hop, rows.length - at);
  std::memcpy(out + at + begin, row + begin, (end - begin) * sizeof(T));
}

// Any n_fft: the FFT library on the block's frames.
template <typename T>
void synthesise_rows(const Job<T>& job, int64_t b, int64_t from, int64_t to, T* out) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const Rows& rows = job.rows;
  const int64_t first = std::max<int64_t>(0, from - rows.reach() + 1), last = std::min(to, rows.n_frames);
  Tensor frames;
  if (first < last) frames = at::_fft_c2r(load(job, b, first, last), {1}, 0, rows.n_fft);
  const T* samples = first < last ? frames.const_data_ptr<T>() : nullptr;
  std::vector<T> clipped(rows.hop);
  for (const auto h : c10::irange(from, to)) {
    const int64_t at = h * rows.hop - rows.start;
    const bool whole = at >= 0 && at + rows.hop <= rows.length;
    overlap_add(samples, first, rows, h, job.window, job.inverse.row(h), whole ? out + at : clipped.data());
    if (!whole) store_row(rows, h, clipped.data(), out);
  }
}

// A small even n_fft in float32: the transform as sums of cosines and sines, for many frames side by side in vectors. With
// C and S the sums over real and imaginary parts of even (e) and odd (o) bins, four samples of a frame come from one n:
//   y[n]         = Ce + Co + Se + So    y[n_fft - n]     = Ce + Co - Se - So
//   y[n_fft/2-n] = Ce - Co - Se + So    y[n_fft/2 + n]   = Ce - Co + Se - So
class Direct {
 public:
  static bool handles(const Rows& rows) { return rows.n_fft % 2 == 0 && rows.n_fft <= kLargestDirect && rows.hop <= rows.n_fft; }

  explicit Direct(const Job<float>& job) : job_(job), pairs_((job.rows.n_fft / 4 + 2) / 2), basis_(pairs_ * job.bins() * 4) {
    const int64_t n_fft = job.rows.n_fft;
    const Circle circle(n_fft);
    float* to = basis_.data();
    for (const auto pair : c10::irange(pairs_)) {
      for (const auto k : c10::irange(job.bins())) {
        const double factor = k == 0 || 2 * k == n_fft ? job.edge : 2;
        for (const auto n : {2 * pair, 2 * pair + 1}) {
          *to++ = static_cast<float>(factor * circle.cos[n * k % n_fft]);
          *to++ = static_cast<float>(-factor * circle.sin[n * k % n_fft]);
        }
      }
    }
  }

  int64_t scratch_size() const {
    const int64_t wide = padded_frames(kDirectRows);
    return (2 * job_.bins() + job_.rows.n_fft + 2 * padded_hop()) * wide;
  }

  void operator()(int64_t b, int64_t from, int64_t to, float* scratch, float* out) const {
    const int64_t wide = padded_frames(to - from);
    float *planes = scratch, *samples = planes + 2 * job_.bins() * wide, *sums = samples + job_.rows.n_fft * wide,
          *by_row = sums + padded_hop() * wide;
    load_planes(b, from - job_.rows.reach() + 1, to, wide, planes);
    transform(planes, basis_.data(), job_.window, job_.rows.n_fft, job_.bins(), pairs_, wide, samples);
    const bool inner = job_.inverse.inner(from) && job_.inverse.inner(to - 1);
    overlap(samples, job_.rows.n_fft, job_.rows.hop, job_.rows.reach(), wide, inner ? job_.inverse.row(from) : nullptr, sums);
    transpose(reinterpret_cast<const uint32_t*>(sums), wide, padded_hop(), wide, reinterpret_cast<uint32_t*>(by_row),
              padded_hop());
    if (!inner) divide(from, to, by_row);
    store(job_.rows, from, to, by_row, out);
  }

 private:
  static constexpr int64_t kLanes = 16;
  using Vec = Lanes<float>::Vec;

  int64_t padded_hop() const { return ceil_div(job_.rows.hop, 8) * 8; }
  int64_t padded_frames(int64_t rows) const { return ceil_div(rows + job_.rows.reach() - 1, kLanes) * kLanes; }

  // Real and imaginary parts of frames [from, to) as 2 * bins rows of `wide` values; frames that are not there are zero.
  void load_planes(int64_t b, int64_t from, int64_t to, int64_t wide, float* planes) const {
    const int64_t bins = job_.bins(), begin = std::max<int64_t>(0, from), end = std::max(begin, std::min(to, job_.rows.n_frames));
    const int64_t bin_stride = 2 * job_.spectrum.stride(1), frame_stride = 2 * job_.spectrum.stride(2);
    const float* source =
        static_cast<const float*>(job_.spectrum.const_data_ptr()) + 2 * b * job_.spectrum.stride(0) + begin * frame_stride;
    const int64_t before = begin - from, count = end - begin, after = wide - before - count;
    for (const auto row : c10::irange(2 * bins)) {
      std::memset(planes + row * wide, 0, before * sizeof(float));
      std::memset(planes + row * wide + before + count, 0, after * sizeof(float));
    }
    if (bin_stride == 2) {
      transpose(reinterpret_cast<const uint32_t*>(source), frame_stride, count, 2 * bins,
                reinterpret_cast<uint32_t*>(planes + before), wide);
      return;
    }
    for (const auto k : c10::irange(bins)) {
      split(source + k * bin_stride, frame_stride, count, planes + 2 * k * wide + before, planes + (2 * k + 1) * wide + before);
    }
  }

  BC_FMA_CLONES static void split(const float* from, int64_t stride, int64_t count, float* re, float* im) {
    if (stride == 2) {
      for (int64_t t = 0; t < count; ++t) {
        re[t] = from[2 * t];
        im[t] = from[2 * t + 1];
      }
      return;
    }
    for (int64_t t = 0; t < count; ++t) {
      re[t] = from[t * stride];
      im[t] = from[t * stride + 1];
    }
  }

  // samples[n * wide + t] = window[n] * sample n of frame t
  BC_FMA_CLONES static void transform(const float* planes, const float* basis, const float* window, int64_t n_fft, int64_t bins,
                                      int64_t pairs, int64_t wide, float* samples) {
    for (int64_t t = 0; t < wide; t += kLanes) {
      for (int64_t pair = 0; pair < pairs; ++pair) {
        Vec sums[2][2][2][2];  // parity of the bin, n of the pair, cosine or sine, vector
        BC_UNROLL for (int parity = 0; parity < 2; ++parity) {
          BC_UNROLL for (int i = 0; i < 8; ++i) sums[parity][i / 4][i / 2 % 2][i % 2] = Vec{};
          for (int64_t k = parity; k < bins; k += 2) {
            const float* factor = basis + (pair * bins + k) * 4;
            BC_UNROLL for (int c = 0; c < 2; ++c) {
              const float* plane = planes + (2 * k + c) * wide + t;
              const Vec first = slot(plane), second = slot(plane + 8);
              BC_UNROLL for (int i = 0; i < 2; ++i) {
                sums[parity][i][c][0] += first * factor[2 * i + c];
                sums[parity][i][c][1] += second * factor[2 * i + c];
              }
            }
          }
        }
        BC_UNROLL for (int i = 0; i < 2; ++i) {
          const int64_t n = 2 * pair + i, half = n_fft / 2;
          if (4 * n > n_fft) continue;
          BC_UNROLL for (int v = 0; v < 2; ++v) {
            const Vec ce = sums[0][i][0][v], co = sums[1][i][0][v], se = sums[0][i][1][v], so = sums[1][i][1][v];
            float* to = samples + t + 8 * v;
            slot(to + n * wide) = ((ce + co) + (se + so)) * window[n];
            slot(to + (half - n) * wide) = ((ce - co) - (se - so)) * window[half - n];
            slot(to + (half + n) * wide) = ((ce - co) + (se - so)) * window[half + n];
            if (n > 0) slot(to + (n_fft - n) * wide) = ((ce + co) - (se + so)) * window[n_fft - n];
          }
        }
      }
    }
  }

  // sums[r * wide + i] = the sum over the frames t that reach row i of sample (i - t) * hop + r; times inverse[r], if given
  BC_FMA_CLONES static void overlap(const float* samples, int64_t n_fft, int64_t hop, int64_t reach, int64_t wide,
                                    const float* inverse, float* sums) {
    for (int64_t r = 0; r < hop; ++r) {
      float* to = sums + r * wide;
      const int64_t terms = (n_fft - r + hop - 1) / hop;
      const float* from = samples + ((terms - 1) * hop + r) * wide + reach - terms;
      const int64_t count = wide - (reach - 1);
      for (int64_t i = 0; i < count; ++i) to[i] = from[i];
      for (int64_t j = terms - 2; j >= 0; --j) {
        const float* next = samples + (j * hop + r) * wide + reach - 1 - j;
        for (int64_t i = 0; i < count; ++i) to[i] += next[i];
      }
      if (!inverse) continue;
      for (int64_t i = 0; i < count; ++i) to[i] *= inverse[r];
    }
  }

  void divide(int64_t from, int64_t to, float* by_row) const {
    for (int64_t h = from; h < to; ++h, by_row += padded_hop()) {
      const float* inverse = job_.inverse.row(h);
      for (int64_t r = 0; r < job_.rows.hop; ++r) by_row[r] *= inverse[r];
    }
  }

  BC_FMA_CLONES static void store(const Rows& rows, int64_t from, int64_t to, const float* by_row, float* out) {
    const int64_t hop = rows.hop, wide = ceil_div(hop, 8) * 8, end = std::min(to * hop - rows.start, rows.length);
    for (int64_t h = from; h < to; ++h, by_row += wide) {
      const int64_t at = h * hop - rows.start;
      if (at < 0 || at + wide > end) {
        store_row(rows, h, by_row, out);
        continue;
      }
      // What is written beyond the row, the next row overwrites
      for (int64_t r = 0; r < wide; r += 8) slot(out + at + r) = slot(by_row + r);
    }
  }

  const Job<float>& job_;
  const int64_t pairs_;
  std::vector<float> basis_;
};

template <typename T>
Tensor synthesise(const Tensor& spectrum, const Tensor& window, int64_t hop, const Trim& trim, T edge, const Tensor& envelope) {
  const int64_t batch = spectrum.size(0);
  const Rows rows{window.size(0), hop, spectrum.size(2), trim.start, trim.length.expect_int()};
  const auto inverse = envelope.defined() ? InverseEnvelope<T>(rows, envelope.const_data_ptr<T>()) : InverseEnvelope<T>(rows);
  Tensor out = at::empty({batch, rows.length}, window.options());
  if (out.numel() == 0) return out;
  const Job<T> job{spectrum, window.const_data_ptr<T>(), rows, inverse, edge, out.data_ptr<T>()};
  const auto run = [&](int64_t step, const auto& block) {
    const int64_t first = rows.first(), count = rows.last() - first, blocks = ceil_div(count, step);
    at::parallel_for(0, batch * blocks, 1, [&](int64_t begin, int64_t end) {
      auto compute = block();
      for (const auto i : c10::irange(begin, end)) {
        const int64_t b = i / blocks, from = first + i % blocks * step;
        compute(b, from, std::min(from + step, first + count), job.out + b * rows.length);
      }
    });
  };
  if constexpr (std::is_same_v<T, float>) {
    if (Direct::handles(rows)) {
      const Direct direct(job);
      run(kDirectRows, [&] {
        return [&, scratch = std::vector<float>(direct.scratch_size())](
                   int64_t b, int64_t from, int64_t to, float* to_row) mutable { direct(b, from, to, scratch.data(), to_row); };
      });
      return out;
    }
  }
  const int64_t frames = block_frames(rows.n_fft, rows.n_frames, sizeof(T));
  run(std::max(frames, 4 * rows.reach()),
      [&] { return [&](int64_t b, int64_t from, int64_t to, T* to_row) { synthesise_rows(job, b, from, to, to_row); }; });
  return out;
}

}  // namespace

Tensor synthesise_cpu(const Tensor& spectrum, const Tensor& window, int64_t hop, const Trim& trim, double edge,
                      const Tensor& envelope_window) {
  const Tensor w = window.contiguous(), e = envelope_window.defined() ? envelope_window.contiguous() : envelope_window;
  return w.scalar_type() == at::kDouble ? synthesise<double>(spectrum, w, hop, trim, edge, e)
                                        : synthesise<float>(spectrum, w, hop, trim, static_cast<float>(edge), e);
}

Tensor inverse_envelope_cpu(const Tensor& window, int64_t hop, int64_t n_frames, const Trim& trim) {
  const Rows rows{window.size(0), hop, n_frames, trim.start, trim.length.expect_int()};
  const Tensor w = window.contiguous();
  Tensor out = at::empty({rows.length}, w.options());
  AT_DISPATCH_FLOATING_TYPES(w.scalar_type(), "inverse_envelope", [&] {
    const InverseEnvelope<scalar_t> inverse(rows, w.const_data_ptr<scalar_t>());
    for (const auto h : c10::irange(rows.first(), rows.last())) store_row(rows, h, inverse.row(h), out.data_ptr<scalar_t>());
  });
  return out;
}

}  // namespace blackwell_compat
