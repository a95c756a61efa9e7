// Weights in the layout that oneDNN computes with, made once per weight and kept while the weight lives unchanged.
#pragma once
#include <ATen/ATen.h>

#include <array>
#include <functional>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>

namespace blackwell_compat {

struct Packed {
  at::Tensor data;  // 1-D bytes, or the plain weight itself where the layout is plain already
  dnnl::memory::desc desc;

  size_t bytes() const { return data.defined() ? data.nbytes() : 0; }  // both are empty where oneDNN has no fast kernel
};

// What distinguishes two packings of one weight: the op, groups, compute dtype, and whatever else fixes the layout.
using PackKind = std::array<int64_t, 4>;

struct PackStats {
  size_t entries, bytes, capacity, made, reused, refused;
};

// The packed form of `weight`, made by `make` where there is none yet. Null where it should not be packed: the weight
// changes from call to call (training), it has no version counter (inference tensors), or the cache is full. A weight is
// known by its storage, offset, sizes, strides and version, and by 16 of its values, which notice writes that leave the
// version as it was (through `.data`). Thread-safe.
std::shared_ptr<const Packed> packed_weight(const at::Tensor& weight, const PackKind& kind, const std::function<Packed()>& make);

PackStats pack_stats();
void clear_packs();

}  // namespace blackwell_compat
