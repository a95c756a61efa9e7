// istft_fp32 on the CPU. A block is a range of output rows (hop samples each): it transforms the frames that reach it and adds
// them in the order of time, so blocks need nothing of each other and the result is the same for any number of threads.
#include <ATen/Parallel.h>
#include <c10/util/irange.h>

#include <cstring>
#include <limits>
#include <vector>

#include "common/clones.h"
#include "common/cpu.h"
#include "common/fft.h"
#include "common/transpose.h"
#include "ops/istft/istft.h"

namespace blackwell_compat {
namespace {

constexpr int64_t kStep = 16;  // rows of factors are padded to a multiple of it, so that vectors of them can be read

// Row h of the overlap-added signal is its samples [h * hop, (h + 1) * hop); frames h - reach + 1 to h are added there.
struct Rows {
  int64_t n_fft, hop, n_frames;
  int64_t start, length;  // samples kept, from the first sample of the first frame

  int64_t reach() const { return ceil_div(n_fft, hop); }
  int64_t padded_hop() const { return ceil_div(hop, kStep) * kStep; }
  int64_t first() const { return start / hop; }
  int64_t last() const { return ceil_div(start + length, hop); }
};

// 1 / (the sum of the squared window over frames), row by row: rows that all their frames reach are equal.
template <typename T>
class InverseEnvelope {
 public:
  // All ones
  explicit InverseEnvelope(const Rows& rows) : rows_(rows), inner_(rows.padded_hop(), 1) {}

  InverseEnvelope(const Rows& rows, const T* window) : rows_(rows), inner_(rows.padded_hop()) {
    const int64_t edge = rows.reach() - 1, n_frames = rows.n_frames, apart = rows.padded_hop();
    inner_from_ = edge;
    inner_to_ = n_frames;
    head_.resize(std::min(edge, n_frames) * apart);
    tail_.resize(edge * apart);
    for (const auto h : c10::irange(std::min(edge, n_frames))) fill(h, window, h, h + 1, head_.data() + h * apart);
    for (const auto h : c10::irange(edge)) fill(n_frames + h, window, n_frames + h, n_frames + h + 1, tail_.data() + h * apart);
    if (n_frames > edge) fill(edge, window, edge, n_frames, inner_.data());
  }

  const T* row(int64_t h) const {
    if (h >= inner_from_ && h < inner_to_) return inner_.data();
    const int64_t apart = rows_.padded_hop();
    return h < rows_.n_frames ? head_.data() + h * apart : tail_.data() + (h - rows_.n_frames) * apart;
  }

 private:
  // Row h, which stands for rows [from, to): the samples of these that are kept have to have a sum.
  void fill(int64_t h, const T* window, int64_t from, int64_t to, T* inverse) const {
    const int64_t hop = rows_.hop, begin = rows_.start, end = begin + rows_.length;
    const int64_t oldest = std::max<int64_t>(0, h - rows_.reach() + 1), newest = std::min(h, rows_.n_frames - 1);
    std::vector<double> sums(hop);
    for (int64_t t = oldest; t <= newest; ++t) {
      const T* from_row = window + (h - t) * hop;
      const int64_t count = std::min(hop, rows_.n_fft - (h - t) * hop);
      for (int64_t r = 0; r < count; ++r) sums[r] += static_cast<double>(from_row[r]) * static_cast<double>(from_row[r]);
    }
    // Sample r of row h is kept where begin <= h * hop + r < end
    const int64_t begin_row = begin / hop, begin_rest = begin % hop, end_row = end / hop, end_rest = end % hop;
    for (const auto r : c10::irange(hop)) {
      inverse[r] = static_cast<T>(1 / sums[r]);
      const int64_t kept_from = begin_row + (r < begin_rest), kept_to = end_row + (r < end_rest);
      BC_CHECK("istft_fp32", std::max(from, kept_from) >= std::min(to, kept_to) || !(sums[r] < 1e-11),
               "window overlap add min: 1; the frames leave samples that no window reaches");
    }
  }

  const Rows rows_;
  std::vector<T> inner_, head_, tail_;
  int64_t inner_from_ = 0, inner_to_ = std::numeric_limits<int64_t>::max();  // rows that all their frames reach
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
  // Rows that are one row, expanded, are copied: MKL in torch 2.6 does not take them
  if (view.stride(1) == 1 && view.stride(0) >= job.bins() && job.edge == 1) return view;
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

BC_CLONES void overlap_add(const float* frames, int64_t first, const Rows& rows, int64_t h, const float* window,
                           const float* inverse, float* to) {
  overlap_add_row(frames, first, rows, h, window, inverse, to);
}

BC_CLONES void overlap_add(const double* frames, int64_t first, const Rows& rows, int64_t h, const double* window,
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

// Sizes that common/fft.h leaves: the FFT library on the block's frames.
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

// The frames of one call, by common/fft.h, which adds them up while they are in the caches. Blocks begin where groups of frames
// do, so that a row is added up in the same order whatever the blocks.
template <typename T>
class Frames {
 public:
  explicit Frames(const Job<T>& job) : job_(job), plan_(fft::plan<T>(job.rows.n_fft)), lanes_(fft::kernels<T>().lanes) {}

  // The row before or at the first one where a block may begin, and others do every `lanes` rows.
  int64_t first() const {
    const int64_t first = job_.rows.first(), beyond = (first - job_.rows.reach() + 1) % lanes_;
    return first - (beyond < 0 ? beyond + lanes_ : beyond);
  }

  // As many as there are threads: each has some frames twice, and waits for its first ones.
  int64_t block(int64_t batch) const {
    const int64_t wanted = ceil_div((job_.rows.last() - first()) * batch, at::get_num_threads());
    return ceil_div(std::max(std::min<int64_t>(wanted, 2048), 4 * job_.rows.reach()), lanes_) * lanes_;
  }

  void operator()(int64_t b, int64_t from, int64_t to, T* out) const {
    const Rows& rows = job_.rows;
    const int64_t begin = std::max<int64_t>(0, from - rows.reach() + 1) / lanes_ * lanes_;
    const int64_t work_size = fft::synthesis_size(*plan_, rows.hop);
    T* work = reinterpret_cast<T*>(scratch(kFrames, (work_size + 3 * rows.hop) * sizeof(T)));
    // Rows before `from`, which lack earlier frames; and the first and last row of the result, of which a part may be kept
    T *unwanted = work + work_size, *first = unwanted + rows.hop, *last = first + rows.hop;
    std::vector<T*> targets(to - begin, unwanted);
    std::vector<const T*> factors(to - begin);
    for (const auto h : c10::irange(begin, to)) factors[h - begin] = job_.inverse.row(h);
    for (const auto h : c10::irange(from, to)) {
      const int64_t at = h * rows.hop - rows.start;
      targets[h - begin] = at < 0 ? first : at + rows.hop > rows.length ? last : out + at;
    }
    const int64_t bin_stride = 2 * job_.spectrum.stride(1), frame_stride = 2 * job_.spectrum.stride(2);
    const T* spectrum = static_cast<const T*>(job_.spectrum.const_data_ptr()) + 2 * b * job_.spectrum.stride(0);
    fft::kernels<T>().synthesise(
        *plan_, {spectrum + begin * frame_stride, bin_stride, frame_stride, std::min(to, rows.n_frames) - begin, job_.edge,
                 rows.hop, job_.window, work, to - begin, targets.data(), factors.data()});
    if (targets[from - begin] == first) store_row(rows, from, first, out);
    if (targets.back() == last) store_row(rows, to - 1, last, out);
  }

 private:
  const Job<T>& job_;
  const std::shared_ptr<const fft::Plan<T>> plan_;
  const int64_t lanes_;
};

template <typename T>
Tensor synthesise(const Tensor& spectrum, const Tensor& window, int64_t hop, const Trim& trim, T edge, const Tensor& envelope) {
  const int64_t batch = spectrum.size(0);
  const Rows rows{window.size(0), hop, spectrum.size(2), trim.start, trim.length.expect_int()};
  const auto inverse = envelope.defined() ? InverseEnvelope<T>(rows, envelope.const_data_ptr<T>()) : InverseEnvelope<T>(rows);
  Tensor out = at::empty({batch, rows.length}, window.options());
  if (out.numel() == 0) return out;
  const Job<T> job{spectrum, window.const_data_ptr<T>(), rows, inverse, edge, out.data_ptr<T>()};
  const auto run = [&](int64_t first, int64_t step, const auto& block) {
    const int64_t blocks = ceil_div(rows.last() - first, step);
    at::parallel_for(0, batch * blocks, 1, [&](int64_t begin, int64_t end) {
      for (const auto i : c10::irange(begin, end)) {
        const int64_t b = i / blocks, from = first + i % blocks * step;
        block(b, std::max(from, rows.first()), std::min(from + step, rows.last()), job.out + b * rows.length);
      }
    });
  };
  if (fft::handles(rows.n_fft)) {
    const Frames<T> frames(job);
    run(frames.first(), frames.block(batch), frames);
  } else {
    const int64_t frames = block_frames(rows.n_fft, rows.n_frames, sizeof(T));
    run(rows.first(), std::max(frames, 4 * rows.reach()),
        [&](int64_t b, int64_t from, int64_t to, T* to_row) { synthesise_rows(job, b, from, to, to_row); });
  }
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
