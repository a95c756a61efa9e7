// Spans of storages, host tensors of the same geometry over them, and the way back.
#include "fallback/call.h"

#include <ATen/SparseCsrTensorUtils.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <limits>

#include "common/pack_cache.h"
#include "fallback/original.h"
#include "fallback/shadow.h"
#include "fallback/transfer.h"
#include "fallback/widened.h"
#include "runtime/host_memory.h"

namespace blackwell_compat::fallback {
namespace {

using at::Tensor;

constexpr int64_t kAlignment = 64;  // bytes; host memory is as aligned as what it stands for

c10::StorageImpl* storage_of(const Tensor& tensor) {
  return tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
}

// A tensor over `storage` with the geometry and bits of `like`, `shift` bytes further on.
Tensor like_over(c10::Storage storage, c10::DispatchKey key, const Tensor& like, int64_t shift) {
  Tensor made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
  c10::TensorImpl* impl = made.unsafeGetTensorImpl();
  impl->set_storage_offset(like.storage_offset() + shift / static_cast<int64_t>(like.itemsize()));
  impl->set_sizes_and_strides(like.sizes(), like.strides());
  if (like.is_conj()) impl->_set_conj(true);
  if (like.is_neg()) impl->_set_neg(true);
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  return made;
}

// Copies in other forms of what was just written.
void forget_made_of(const c10::StorageImpl* host) {
  forget_widened(host);
  note_write(host);
}

}  // namespace

std::pair<int64_t, int64_t> extent(const Tensor& tensor) {
  const auto item = static_cast<int64_t>(tensor.itemsize());
  const int64_t begin = tensor.storage_offset() * item;
  if (tensor.numel() == 0) return {begin, begin};
  int64_t last = 0;
  for (int64_t d = 0; d < tensor.dim(); ++d) last += (tensor.size(d) - 1) * tensor.stride(d);
  return {begin, begin + (last + 1) * item};
}

Call::~Call() {
  if (written_back_) return;
  // The op threw: its shadows may hold half a result that the device does not
  for (const Bound& bound : bound_) {
    if (!bound.written) continue;
    const auto [begin, end] = extent(bound.device);
    half_written(storage_of(bound.device), begin, end);
    if (bound.host.defined()) forget_made_of(storage_of(bound.host));
  }
}

void Call::bind(const Tensor& tensor, ArgumentFacts facts) {
  if (!tensor.defined()) return;
  if (!tensor.is_cuda()) {
    if (tensor.is_cpu()) of_host_.push_back(tensor);
    if (tensor.is_cpu() && tensor.dim() > 0 && !facts.host_too) stranger_ = true;
    return;
  }
  TORCH_CHECK_NOT_IMPLEMENTED(tensor.layout() == c10::kStrided && tensor.has_storage() && !tensor.is_quantized(), op_,
                              ": blackwell_compat carries dense tensors of a card to the CPU, got ", tensor.layout(),
                              tensor.is_quantized() ? " and quantized" : "", "; move it to the CPU (.cpu()) for this op");
  if (const Bound* known = bound_device(tensor)) {
    auto& bound = const_cast<Bound&>(*known);
    bound.written |= facts.written;
    bound.overwritten &= facts.overwritten;
    if (!facts.overwritten) span_of(tensor).read = true;
    span_of(tensor).written |= facts.written;
    return;
  }
  const auto [begin, end] = extent(tensor);
  const bool read = !(facts.overwritten && tensor.is_non_overlapping_and_dense());
  c10::StorageImpl* storage = storage_of(tensor);
  auto span = std::find_if(spans_.begin(), spans_.end(), [&](const Span& s) { return s.storage == storage; });
  if (span == spans_.end()) {
    spans_.push_back({storage, begin, end, read, facts.written, false, {}, std::numeric_limits<int64_t>::max(), 0});
  } else {
    // Bytes between two tensors, or of one beside an overwritten one, have to be right when they go back
    span->written |= facts.written;
    span->read |= read || (end > begin && (span->begin != begin || span->end != end));
    if (end > begin && span->end > span->begin) {
      span->begin = std::min(span->begin, begin);
      span->end = std::max(span->end, end);
    } else if (end > begin) {
      span->begin = begin;
      span->end = end;
    }
  }
  Bound bound{tensor, {}, facts.written, facts.overwritten, 0, {}, {}};
  bound.sizes.assign(tensor.sizes().begin(), tensor.sizes().end());
  bound.strides.assign(tensor.strides().begin(), tensor.strides().end());
  bound_.push_back(std::move(bound));
}

Call::Span& Call::span_of(const Tensor& tensor) {
  return *std::find_if(spans_.begin(), spans_.end(), [&](const Span& s) { return s.storage == storage_of(tensor); });
}

const Call::Bound* Call::bound_device(const Tensor& tensor) const {
  for (const Bound& bound : bound_) {
    if (bound.device.unsafeGetTensorImpl() == tensor.unsafeGetTensorImpl()) return &bound;
  }
  return nullptr;
}

c10::Device Call::device() const {
  if (asked_ && asked_->has_index()) return *asked_;
  if (!bound_.empty()) return bound_.front().device.device();
  return c10::impl::VirtualGuardImpl(c10::kCUDA).getDevice();
}

void Call::bring(bool mixes_devices) {
  for (const Bound& bound : bound_) {
    if (mixes_devices) break;
    const c10::Device first = bound_.front().device.device(), here = bound.device.device();
    TORCH_CHECK(here == first || bound.device.dim() == 0,
                "Expected all tensors to be on the same device, but found at least two ", "devices, ", first, " and ", here,
                "! (when calling ", op_, ")");
    TORCH_CHECK(!stranger_, "Expected all tensors to be on the same device, but found at least two devices, ", here,
                " and cpu! (when calling ", op_, ")");
  }
  for (Span& span : spans_) {
    bring(span);
    if (span.written) runtime::wait_for_copies(span.host.data_ptr());
  }
  for (Bound& bound : bound_) {
    const Span& span = span_of(bound.device);
    bound.host = like_over(span.host, c10::DispatchKey::CPU, bound.device, -span.begin);
    bound.offset = bound.host.storage_offset();
  }
}

void Call::bring(Span& span) {
  const auto bytes = static_cast<int64_t>(span.storage->nbytes());
  const auto device = span.written ? std::optional(span.storage->device()) : std::nullopt;
  if (span.end <= span.begin) {
    span.begin = span.end = 0;
    span.host = host_storage(0, {});
    return;
  }
  const bool whole = span.begin == 0 && span.end == bytes;
  span.begin = span.begin / kAlignment * kAlignment;
  if (c10::Storage shadow = find_shadow(span.storage)) {
    span.host = std::move(shadow);
    span.begin = 0;
    span.end = bytes;
    span.shadowed = true;
    return;
  }
  // Most of a storage: bring all of it and keep it. A small part of a large one comes alone
  if (2 * (span.end - span.begin) >= bytes && bytes <= shadow_limit() && !runs_kernels(span.storage->device())) {
    const int64_t writes = writes_past_shadows();
    span.host = host_storage(bytes, device);
    if (span.read || !whole) download(span.host.mutable_data(), span.storage, 0, bytes);
    span.begin = 0;
    span.end = bytes;
    if (c10::Storage shadow = share_shadow(span.storage, span.host, writes)) {
      span.host = std::move(shadow);
      span.shadowed = true;
    }
    return;
  }
  span.host = host_storage(span.end - span.begin, device);
  if (span.read) download(span.host.mutable_data(), span.storage, span.begin, span.end - span.begin);
}

Tensor Call::host(const Tensor& tensor) const {
  const Bound* bound = tensor.defined() ? bound_device(tensor) : nullptr;
  return bound ? bound->host : tensor;
}

void Call::write_back() {
  written_back_ = true;
  for (Bound& bound : bound_) {
    if (!bound.written) continue;
    c10::TensorImpl* on_device = bound.device.unsafeGetTensorImpl();
    if (on_device->is_conj() != bound.host.is_conj()) on_device->_set_conj(bound.host.is_conj());  // linalg.lu_solve does it
    Span& span = span_of(bound.device);
    const bool same = storage_of(bound.host) == span.host.unsafeGetStorageImpl() &&
                      bound.host.sizes() == c10::IntArrayRef(bound.sizes) &&
                      bound.host.strides() == c10::IntArrayRef(bound.strides) && bound.host.storage_offset() == bound.offset;
    if (!same) {
      upload_resized(bound);
      continue;
    }
    const auto [begin, end] = extent(bound.device);
    if (end <= begin) continue;
    span.dirty_begin = std::min(span.dirty_begin, begin);
    span.dirty_end = std::max(span.dirty_end, end);
  }
  for (const Span& span : spans_) {
    if (span.dirty_end <= span.dirty_begin) continue;
    forget_made_of(span.host.unsafeGetStorageImpl());
    if (span.shadowed && defer_upload(span.storage, span.host, span.dirty_begin, span.dirty_end)) continue;
    const Writing writing(span.storage, span.dirty_begin, span.dirty_end, span.host);
    upload(span.storage, span.dirty_begin, span.host, span.dirty_begin - span.begin, span.dirty_end - span.dirty_begin);
  }
}

// An out= argument that the op gave another size or other strides.
void Call::upload_resized(Bound& bound) {
  c10::StorageImpl* storage = storage_of(bound.device);
  flush(storage);
  const auto item = static_cast<int64_t>(bound.host.itemsize());
  const auto [host_begin, host_end] = extent(bound.host);
  bound.device.resize_({(host_end - host_begin) / item});
  bound.device.unsafeGetTensorImpl()->set_sizes_and_strides(bound.host.sizes(), bound.host.strides());
  const auto [begin, end] = extent(bound.device);
  const Writing writing(storage, begin, end);
  if (bound.host.is_non_overlapping_and_dense()) {
    upload(storage, begin, bound.host.storage(), host_begin, end - begin);
  } else {  // what lies between the elements stays as it is on the card
    const c10::Storage rows = host_storage(end - begin, {});
    download(rows.mutable_data(), storage, begin, end - begin);
    like_over(rows, c10::DispatchKey::CPU, bound.device, -begin).copy_(bound.host);
    upload(storage, begin, rows, 0, end - begin);
  }
}

Tensor Call::device(const Tensor& result) {
  if (!result.defined() || !result.is_cpu()) return result;
  for (const Bound& bound : bound_) {
    if (bound.host.unsafeGetTensorImpl() == result.unsafeGetTensorImpl()) return bound.device;
  }
  for (const Tensor& argument : of_host_) {
    if (argument.unsafeGetTensorImpl() == result.unsafeGetTensorImpl()) return result;
  }
  if (result.is_sparse() || at::sparse_csr::is_sparse_compressed(result) || result.is_nested() || result.is_quantized()) {
    return result.to(device());
  }
  TORCH_CHECK_NOT_IMPLEMENTED(result.layout() == c10::kStrided && result.has_storage(), op_, ": the result is ", result.layout(),
                              ", which blackwell_compat does not carry to a card; call it on the CPU (.cpu())");
  for (const Span& span : spans_) {
    if (span.host.unsafeGetStorageImpl() != storage_of(result)) continue;
    for (const Bound& bound : bound_) {
      if (storage_of(bound.device) == span.storage) {
        return like_over(bound.device.storage(), c10::DispatchKey::CUDA, result, span.begin);
      }
    }
  }
  for (const auto& [host, on_device] : made_) {
    if (host == storage_of(result)) return like_over(on_device, c10::DispatchKey::CUDA, result, 0);
  }
  Tensor source = result;
  const bool borrowed = std::any_of(of_host_.begin(), of_host_.end(),
                                    [&](const Tensor& t) { return t.has_storage() && storage_of(t) == storage_of(result); });
  // A part of an argument on the host, or a small view of something large that was made on the way
  if (borrowed || storage_of(source)->nbytes() > 2 * source.nbytes() + 4096) source = source.clone(at::MemoryFormat::Preserve);
  const auto bytes = static_cast<int64_t>(source.storage().nbytes());
  const c10::Storage on_device = at::empty({bytes}, at::TensorOptions(at::kByte).device(device())).storage();
  c10::StorageImpl* to = on_device.unsafeGetStorageImpl();
  const c10::Storage host = is_lazy() ? source.storage() : staged(source.storage(), device());
  if (bytes > 0 && !runs_kernels(device())) keep_shadow(to, host);
  if (!defer_upload(to, host, 0, bytes)) upload(to, 0, host, 0, bytes);
  made_.emplace_back(storage_of(source), on_device);
  return like_over(on_device, c10::DispatchKey::CUDA, source, 0);
}

}  // namespace blackwell_compat::fallback
