// Weights in the layout that the CPU kernels compute with, made once per weight and kept while the weight lives unchanged.
#pragma once
#include <ATen/ATen.h>

#include <array>
#include <functional>
#include <memory>
#include <vector>

namespace blackwell_compat {

struct Packed {
  std::vector<at::Tensor> parts;       // none: this weight is not to be packed
  std::shared_ptr<const void> layout;  // what the kernel that packed it wants to know again

  size_t nbytes() const {
    size_t sum = 0;
    for (const at::Tensor& part : parts) sum += part.nbytes();
    return sum;
  }
};

// An inference tensor counts none.
inline uint32_t version_of(const at::Tensor& weight) { return weight.is_inference() ? 0 : weight._version(); }

// What distinguishes two packings of one weight: the op, groups, compute dtype, and whatever else fixes the layout.
using PackKind = std::array<int64_t, 4>;

struct PackStats {
  size_t entries, bytes, capacity, made, reused, refused;
};

// The packed form of `weight`, made by `make` where there is none yet. Null where it should not be packed: the weight
// changes from call to call (training), or the cache is full. A weight is known by its storage, offset, sizes, strides and
// version, and by 16 of its values, which notice writes that leave the version as it was (through `.data`) or have none
// (inference tensors). Thread-safe.
std::shared_ptr<const Packed> packed_weight(const at::Tensor& weight, const PackKind& kind, const std::function<Packed()>& make);

// `weight` in another dtype, kept likewise. Undefined where it should not be.
at::Tensor kept_cast(const at::Tensor& weight, at::ScalarType dtype);

// Something wrote to a storage whose tensors count no versions: what was packed of it is old.
void note_write(const c10::StorageImpl* storage);

PackStats pack_stats();
void clear_packs();

}  // namespace blackwell_compat
