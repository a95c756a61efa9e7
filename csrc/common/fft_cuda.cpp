// Radices, tables and blocks.
#include "common/fft_cuda.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "common/ceil_div.h"
#include "runtime/copy.h"
#include "runtime/device_info.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using Value = std::complex<double>;

// Above them a convolution takes less time than a pass of such a radix
constexpr std::array<int64_t, 17> kOddRadices{61, 59, 53, 47, 43, 41, 37, 31, 29, 23, 19, 17, 13, 11, 7, 5, 3};
constexpr int64_t kSharedBytes = 48 << 10;  // of a block, where that holds a frame: several blocks are on a multiprocessor
constexpr int64_t kWorkspaceBytes = int64_t{256} << 20;
constexpr int64_t kPointsOfThread = 8, kLeastThreads = 64;

// First pass first; none where a prime factor is too large.
std::vector<int64_t> radices(int64_t points) {
  std::vector<int64_t> result;
  int twos = 0;
  for (; points % 2 == 0; points /= 2) ++twos;
  for (const int64_t prime : kOddRadices) {
    for (; points % prime == 0; points /= prime) result.push_back(prime);
  }
  if (points > 1) return {};
  const int fours = twos % 3 == 2 ? 1 : twos % 3 == 1 && twos > 1 ? 2 : 0;
  result.insert(result.end(), (twos - 2 * fours) / 3, 8);
  result.insert(result.end(), fours, 4);
  if (twos == 1) result.push_back(2);
  return result;
}

// e^(-2 pi i k / n), exact at quarters of a turn.
Value root(int64_t k, int64_t n) {
  k %= n;
  if (4 * k % n == 0) {
    constexpr std::array<Value, 4> quarters{Value{1, 0}, Value{0, -1}, Value{-1, 0}, Value{0, 1}};
    return quarters.at(4 * k / n);
  }
  const long double angle =
      -2 * 3.14159265358979323846264338327950288L * static_cast<long double>(k) / static_cast<long double>(n);
  return {static_cast<double>(std::cos(angle)), static_cast<double>(std::sin(angle))};
}

class Tables {
 public:
  Tables(int64_t n_fft, bool real, at::ScalarType dtype, c10::Device device) {
    const bool pairs = real && n_fft % 2 == 0;
    const int64_t points = pairs ? n_fft / 2 : n_fft;
    auto passes = radices(points);
    const bool convolves = points > 1 && passes.empty();
    int64_t length = points;
    if (convolves) {
      for (length = 1; length < 2 * points - 1;) length *= 2;
      passes = radices(length);
    }
    params_.points = static_cast<int>(points), params_.length = static_cast<int>(length);

    add_passes(passes);
    const size_t turn = values_.size();
    for (int64_t k = 0; pairs && k <= points; ++k) values_.push_back(root(k, n_fft));
    const size_t chirp = values_.size(), filter = chirp + points;
    if (convolves) add_chirp(points, length);

    upload(dtype, device);
    const size_t value_bytes = 2 * c10::elementSize(dtype);
    const auto at = [&](bool there, size_t i) {
      return there ? static_cast<const char*>(storage_.const_data_ptr()) + i * value_bytes : nullptr;
    };
    params_.twiddles = at(true, 0), params_.turn = at(pairs, turn);
    params_.chirp = at(convolves, chirp), params_.filter = at(convolves, filter);
  }

  const FftParams& params() const { return params_; }

 private:
  void add_passes(const std::vector<int64_t>& passes) {
    int64_t size = 1;
    for (const int64_t radix : passes) {
      const int64_t whole = radix * size;
      if (is_register_radix(static_cast<int>(radix))) {
        for (int64_t q = 1; q < radix; ++q) {
          for (int64_t k = 0; k < size; ++k) values_.push_back(root(q * k, whole));
        }
      } else {
        for (int64_t k = 0; k < whole; ++k) values_.push_back(root(k, whole));
      }
      params_.radix[params_.passes] = static_cast<unsigned char>(radix);
      params_.by_size[params_.passes++] = divisor_of(static_cast<unsigned>(size));
      size = whole;
    }
  }

  void add_chirp(int64_t points, int64_t length) {
    const Tensor conjugate = at::zeros({length}, at::kComplexDouble);
    auto* const b = static_cast<Value*>(conjugate.mutable_data_ptr());
    for (int64_t k = 0; k < points; ++k) {
      values_.push_back(root(k * k, 2 * points));
      b[k] = b[(length - k) % length] = std::conj(values_.back()) / static_cast<double>(length);
    }
    const Tensor filter = at::_fft_c2c(conjugate, {0}, 0, true);
    const auto* const f = static_cast<const Value*>(filter.const_data_ptr());
    values_.insert(values_.end(), f, f + length);
  }

  // Other streams may use the tables next.
  void upload(at::ScalarType dtype, c10::Device device) {
    const auto count = static_cast<int64_t>(values_.size());
    const Tensor host = at::from_blob(values_.data(), {count}, at::kComplexDouble).to(at::toComplexType(dtype));
    storage_ = at::empty({count}, host.options().device(device));
    runtime::copy_to_device(storage_.mutable_data_ptr(), host.const_data_ptr(), host.nbytes(), device,
                            runtime::current_stream(device));
    runtime::synchronize(device);
    values_ = {};
  }

  FftParams params_{};
  std::vector<Value> values_;
  Tensor storage_;
};

FftParams tables(int64_t n_fft, bool real, at::ScalarType dtype, c10::Device device) {
  using Key = std::tuple<c10::DeviceIndex, at::ScalarType, bool, int64_t>;
  static std::mutex mutex;
  static auto* const kept = new std::map<Key, Tables>;  // never destroyed: it holds memory of cards
  const std::lock_guard<std::mutex> lock(mutex);
  const Key key{device.index(), dtype, real, n_fft};
  const auto found = kept->find(key);
  if (found != kept->end()) return found->second.params();
  TORCH_CHECK(!runtime::is_capturing(device), "fft: the tables for n_fft=", n_fft, " are not on ", device,
              " yet, which a CUDA graph that is being captured forbids; run the transform once before torch.cuda.graph");
  const at::AutoDispatchBelowADInplaceOrView below;
  return kept->emplace(std::piecewise_construct, std::forward_as_tuple(key), std::forward_as_tuple(n_fft, real, dtype, device))
      .first->second.params();
}

}  // namespace

FftLaunch fft_launch(int64_t n_fft, bool real, at::ScalarType dtype, c10::Device device, int64_t frames, int64_t other_bytes) {
  FftLaunch launch{tables(n_fft, real, dtype, device), false, 0};
  FftParams& fft = launch.fft;
  const auto real_bytes = static_cast<int>(c10::elementSize(dtype));
  const auto bytes = [&](int64_t count) {
    return 4 * real_bytes * fft_buffer_size(count * fft.length, real_bytes) + other_bytes;
  };
  const int64_t threads = std::clamp<int64_t>(fft.length / kPointsOfThread, 1, kFftThreads);
  int64_t count = std::clamp(frames, std::max<int64_t>(1, kLeastThreads / threads), kFftThreads / threads);
  while (count > 1 && bytes(count) > kSharedBytes) --count;
  fft.frames = static_cast<int>(count);
  fft.lanes = static_cast<int>(std::min<int64_t>(kFftThreads / count, fft.length));
  launch.block_bytes = ceil_div(bytes(count), 16) * 16;
  launch.large = launch.block_bytes > std::max<int64_t>(kSharedBytes, runtime::device_info(device).shared_bytes_per_block);
  return launch;
}

int64_t FftLaunch::resident_blocks(int64_t blocks, c10::Device device) const {
  if (!large) return blocks;
  return std::min({blocks, parts_to_fill(device), std::max<int64_t>(1, kWorkspaceBytes / block_bytes)});
}

Tensor FftLaunch::workspace(int64_t blocks, c10::Device device) const {
  return large ? at::empty({resident_blocks(blocks, device) * block_bytes}, at::device(device).dtype(at::kByte)) : Tensor();
}

int64_t parts_to_fill(c10::Device device) { return 2 * runtime::device_info(device).multiprocessors; }

}  // namespace blackwell_compat
