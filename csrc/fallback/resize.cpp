// As at::native::resize_cuda_: the storage grows where it must, and what it held stays.
#include "fallback/resize.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/ResizeCommon.h>
#include <c10/core/DeviceGuard.h>

#include "fallback/shadow.h"
#include "fallback/transfer.h"
#include "runtime/copy.h"

namespace blackwell_compat::fallback {
namespace {

void grow(c10::StorageImpl* storage, int64_t bytes) {
  TORCH_CHECK(storage->resizable(), "Trying to resize storage that is not resizable");
  const c10::Device device = storage->device();
  const c10::DeviceGuard guard(device);
  flush(storage);
  c10::DataPtr memory = storage->allocator()->allocate(bytes);
  runtime::copy_between(memory.get(), device, address(storage), device, storage->nbytes());
  drop_shadow(storage);
  storage->set_data_ptr_noswap(std::move(memory));
  storage->set_nbytes(bytes);
}

}  // namespace

void resize(const at::Tensor& self, c10::IntArrayRef sizes, std::optional<c10::MemoryFormat> format) {
  c10::TensorImpl* impl = self.unsafeGetTensorImpl();
  if (self.sizes() != sizes) {
    impl->set_sizes_contiguous(sizes);
    c10::StorageImpl* storage = impl->unsafe_storage().unsafeGetStorageImpl();
    const auto bytes =
        static_cast<int64_t>(at::detail::computeStorageNbytesContiguous(sizes, self.itemsize(), self.storage_offset()));
    if (self.numel() > 0 && bytes > static_cast<int64_t>(storage->nbytes())) {
      const auto before = static_cast<int64_t>(storage->nbytes());
      grow(storage, bytes);
      const auto& context = at::globalContext();
      if (context.deterministicAlgorithms() && context.deterministicFillUninitializedMemory()) {
        at::native::fill_resize_deterministic_(self, before);
      }
    }
  }
  if (!format) return;
  TORCH_CHECK(*format != c10::MemoryFormat::Preserve, "Unsupported memory format ", *format);
  impl->empty_tensor_restride(*format);
}

}  // namespace blackwell_compat::fallback
