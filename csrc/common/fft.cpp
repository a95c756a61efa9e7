// Plans, and the choice of the instruction set.
#include "common/fft.h"

#include <algorithm>
#include <cmath>
#include <list>
#include <mutex>
#include <numeric>
#include <vector>

#include "common/cpu.h"

namespace blackwell_compat::fft {

extern const Kernels<float> kFloat_generic;
extern const Kernels<double> kDouble_generic;
#if defined(__x86_64__)
extern const Kernels<float> kFloat_avx2, kFloat_avx512;
extern const Kernels<double> kDouble_avx2, kDouble_avx512;
#endif

namespace {

constexpr int64_t kLargest = 8192;  // n_fft: above it kLanes frames leave the second-level cache
constexpr size_t kPlansKept = 16;

// The radices of `size`, first pass first, or none where a prime factor is too large. Powers of two go by eights, and by
// fours where the eights leave a rest.
std::vector<int64_t> radices(int64_t size) {
  std::vector<int64_t> result;
  int twos = 0;
  for (; size % 2 == 0; size /= 2) ++twos;
  const int fours = twos % 3 == 2 ? 1 : twos % 3 == 1 && twos > 1 ? 2 : 0;
  for (const int64_t prime : {13, 11, 7, 5, 3}) {
    for (; size % prime == 0; size /= prime) result.push_back(prime);
  }
  result.insert(result.end(), (twos - 2 * fours) / 3, 8);
  result.insert(result.end(), fours, 4);
  if (twos == 1) result.push_back(2);
  if (size > 1) result.clear();
  return result;
}

int64_t complex_size(int64_t n_fft) { return n_fft % 2 == 0 ? n_fft / 2 : n_fft; }

// cos and sin of 2 pi i / n, exact at multiples of a quarter turn.
template <typename T>
void push_turn(std::vector<T>& to, int64_t i, int64_t n, bool backwards) {
  const double angle = 2 * M_PI * static_cast<double>(i) / static_cast<double>(n);
  const double cosine = 4 * i == n || 4 * i == 3 * n ? 0 : std::cos(angle), sine = 2 * i == n ? 0 : std::sin(angle);
  to.push_back(static_cast<T>(cosine));
  to.push_back(static_cast<T>(backwards ? -sine : sine));
}

template <typename T>
class OwnedPlan {
 public:
  explicit OwnedPlan(int64_t n_fft) : place_(complex_size(n_fft)), sample_(n_fft) {
    const int64_t size = complex_size(n_fft);
    const auto factors = radices(size);
    std::vector<size_t> twiddles_at, roots_at;
    int64_t block = size;
    for (const int64_t radix : factors) {
      twiddles_at.push_back(values_.size());
      for (int64_t i = 0; i < block / radix; ++i) {
        for (int64_t k = 1; k < radix; ++k) push_turn(values_, i * k, block, true);
      }
      roots_at.push_back(values_.size());
      for (int64_t k = 0; k < radix; ++k) push_turn(values_, k, radix, false);
      block /= radix;
    }
    const size_t turn_at = values_.size();
    for (int64_t k = 0; k <= size / 2; ++k) push_turn(values_, k, n_fft, false);

    for (int64_t p = 0; p < size; ++p) {
      int64_t rest = p, point = 0, step = 1, parts = size;
      for (const int64_t radix : factors) {
        parts /= radix;
        point += rest / parts * step;
        rest %= parts;
        step *= radix;
      }
      place_[point] = static_cast<int32_t>(p);
    }
    // An inverse transform leaves imaginary parts in the place of real ones
    const auto lanes = static_cast<int32_t>(kernels<T>().lanes);
    for (int64_t n = 0; n < n_fft; ++n) {
      sample_[n] = lanes * (size == n_fft ? 2 * place_[n] + 1 : 2 * place_[n / 2] + (n % 2 == 0));
    }

    view_ = {n_fft, size, static_cast<int>(factors.size()), {}, place_.data(), sample_.data(), values_.data() + turn_at};
    block = size;
    for (size_t i = 0; i < factors.size(); block /= factors[i++]) {
      view_.passes[i] = {factors[i], block, values_.data() + twiddles_at[i], values_.data() + roots_at[i]};
    }
  }

  OwnedPlan(const OwnedPlan&) = delete;
  OwnedPlan& operator=(const OwnedPlan&) = delete;

  const Plan<T>& view() const { return view_; }

 private:
  std::vector<T> values_;
  std::vector<int32_t> place_, sample_;
  Plan<T> view_;
};

}  // namespace

bool handles(int64_t n_fft) {
  return n_fft > 0 && n_fft <= kLargest && (complex_size(n_fft) == 1 || !radices(complex_size(n_fft)).empty());
}

template <typename T>
std::shared_ptr<const Plan<T>> plan(int64_t n_fft) {
  static std::mutex mutex;
  static std::list<std::shared_ptr<const OwnedPlan<T>>> kept;  // the latest used first
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = std::find_if(kept.begin(), kept.end(), [&](const auto& plan) { return plan->view().n_fft == n_fft; });
  if (found != kept.end()) {
    kept.splice(kept.begin(), kept, found);
  } else {
    kept.push_front(std::make_shared<const OwnedPlan<T>>(n_fft));
    if (kept.size() > kPlansKept) kept.pop_back();
  }
  return {kept.front(), &kept.front()->view()};
}

template std::shared_ptr<const Plan<float>> plan(int64_t n_fft);
template std::shared_ptr<const Plan<double>> plan(int64_t n_fft);

template <>
const Kernels<float>& kernels() {
#if defined(__x86_64__)
  if (cpu_isa() == Isa::kAvx512) return kFloat_avx512;
  if (cpu_isa() == Isa::kAvx2) return kFloat_avx2;
#endif
  return kFloat_generic;
}

template <>
const Kernels<double>& kernels() {
#if defined(__x86_64__)
  if (cpu_isa() == Isa::kAvx512) return kDouble_avx512;
  if (cpu_isa() == Isa::kAvx2) return kDouble_avx2;
#endif
  return kDouble_generic;
}

}  // namespace blackwell_compat::fft
