// istft's error for samples that no window reaches, decided on the host from a copy of the window.
#include <list>
#include <mutex>
#include <vector>

#include "fallback/call.h"
#include "fallback/original.h"
#include "fallback/registry.h"
#include "fallback/shadow.h"
#include "ops/istft/istft.h"
#include "runtime/copy.h"

namespace blackwell_compat {
namespace {

using Squares = std::shared_ptr<const std::vector<double>>;

constexpr size_t kWindowsKept = 32;

void check_not_capturing(const Tensor& window) {
  TORCH_CHECK(!runtime::is_capturing(window.device()), "istft_fp32: the host does not know the values of this window yet, ",
              "which a CUDA graph that is being captured forbids; run istft once with it before torch.cuda.graph");
}

// After a wait for the card
Tensor copy_of(const Tensor& window) {
  check_not_capturing(window);
  const Tensor host = at::empty_strided(window.sizes(), window.strides(), window.options().device(at::kCPU));
  const int64_t reach = (window.size(0) - 1) * window.stride(0) + 1;
  runtime::copy_to_host(host.mutable_data_ptr(), window.const_data_ptr(), reach * window.element_size(), window.device());
  return host;
}

// Whether all who write to a card are known
bool sees_writes(c10::Device device) { return fallback::installed() && !fallback::runs_kernels(device); }

// From the fallback's copy of its storage, which goes with the next write to the card
Tensor shadow_of(const Tensor& window) {
  static const std::string op = "blackwell_compat::istft_fp32";
  if (!fallback::find_shadow(window.storage().unsafeGetStorageImpl())) check_not_capturing(window);
  fallback::Call call(op);
  call.bind(window, {});
  call.bring(false);
  return call.host(window);
}

Squares squares_of_values(const Tensor& host) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const Tensor values = host.to(at::kDouble).square().contiguous();
  const auto* const begin = values.const_data_ptr<double>();
  return std::make_shared<std::vector<double>>(begin, begin + values.numel());
}

// Windows by their storage, as long as it lives, and version.
class Windows {
  struct Entry {
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;
    int64_t version, offset, stride;
    at::ScalarType dtype;
    Squares squares;

    bool is_of(const Tensor& window) const {
      return storage._unsafe_get_target() == window.storage().unsafeGetStorageImpl() && version == window._version() &&
             offset == window.storage_offset() && stride == window.stride(0) && dtype == window.scalar_type() &&
             squares->size() == static_cast<size_t>(window.size(0));
    }
  };

 public:
  Squares find(const Tensor& window) {
    std::list<Entry> gone;  // freed after the lock: a storage may be Python's
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto entry = kept_.begin(); entry != kept_.end();) {
      const auto here = entry++;
      if (here->storage.expired()) gone.splice(gone.end(), kept_, here);
    }
    for (auto entry = kept_.begin(); entry != kept_.end(); ++entry) {
      if (!entry->is_of(window)) continue;
      kept_.splice(kept_.begin(), kept_, entry);
      return entry->squares;
    }
    return nullptr;
  }

  void keep(const Tensor& window, Squares squares) {
    std::list<Entry> gone;
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.push_front({window.storage().getWeakStorageImpl(), window._version(), window.storage_offset(), window.stride(0),
                      window.scalar_type(), std::move(squares)});
    if (kept_.size() > kWindowsKept) gone.splice(gone.end(), kept_, std::prev(kept_.end()));
  }

 private:
  std::mutex mutex_;
  std::list<Entry> kept_;
};

Squares squares_of(const Tensor& window) {
  if (window.is_inference()) {  // it has no version
    return squares_of_values(sees_writes(window.device()) ? shadow_of(window) : copy_of(window));
  }
  static auto* const windows = new Windows;
  if (auto known = windows->find(window)) return known;
  auto squares = squares_of_values(copy_of(window));
  windows->keep(window, squares);
  return squares;
}

}  // namespace

void check_envelope_cuda(const OptTensor& window, int64_t win_length, int64_t n_fft, int64_t hop, int64_t n_frames,
                         const Trim& trim) {
  const Squares given = window ? squares_of(*window) : std::make_shared<std::vector<double>>(win_length, 1);
  const int64_t left = (n_fft - win_length) / 2, reach = ceil_div(n_fft, hop);
  const int64_t begin = trim.start, end = begin + trim.length.expect_int();
  std::vector<double> sums(reach + 1);  // of the samples that lie r behind a multiple of hop, before each
  for (int64_t r = 0; r < hop; ++r) {
    for (int64_t q = 0; q < reach; ++q) {
      const int64_t n = q * hop + r - left;
      sums[q + 1] = sums[q] + (n >= 0 && n < win_length ? (*given)[n] : 0);
    }
    // Sample h * hop + r, for every h that is kept; those that all their frames reach are one
    const int64_t first = std::max<int64_t>(0, ceil_div(begin - r, hop)), last = end - 1 < r ? -1 : (end - 1 - r) / hop;
    for (int64_t h = first; h <= last; ++h) {
      const int64_t newest = std::min(h, reach - 1), oldest = std::max<int64_t>(0, h - n_frames + 1);
      BC_CHECK("istft_fp32", oldest <= newest && !(sums[newest + 1] - sums[oldest] < 1e-11),
               "window overlap add min: 1; the frames leave samples that no window reaches");
      if (h >= reach - 1 && h < n_frames) h = std::min(last, n_frames - 1);
    }
  }
}

}  // namespace blackwell_compat
