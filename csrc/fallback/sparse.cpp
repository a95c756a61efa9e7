// Moves the arguments with Tensor.to, which splits a sparse tensor into its indices and values.
#include "fallback/sparse.h"

#include <ATen/ATen.h>

#include <string>
#include <unordered_set>
#include <utility>

#include "fallback/counters.h"
#include "fallback/values.h"

namespace blackwell_compat::fallback {

using at::Tensor;
using c10::IValue;

void SparseKernel::operator()(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const Counting counting(facts_.name);
  const size_t n = facts_.arguments.size(), base = stack->size() - n;
  std::vector<std::pair<Tensor, Tensor>> moved;  // on the card, on the host
  std::vector<bool> written;
  c10::Device device(c10::kCUDA);
  const auto to_host = [&](const Tensor& tensor, bool is_written) {
    if (!tensor.defined() || !tensor.is_cuda()) return tensor;
    device = tensor.device();
    for (size_t i = 0; i < moved.size(); ++i) {
      if (moved[i].first.unsafeGetTensorImpl() != tensor.unsafeGetTensorImpl()) continue;
      written[i] = written[i] || is_written;
      return moved[i].second;
    }
    moved.emplace_back(tensor, tensor.to(c10::kCPU));
    written.push_back(is_written);
    return moved.back().second;
  };
  const at::AutoDispatchBelowADInplaceOrView below;
  for (size_t i = 0; i < n; ++i) {
    IValue& value = (*stack)[base + i];
    replace_tensors(value, [&](const Tensor& tensor) { return to_host(tensor, facts_.arguments[i].written); });
    if (value.isDevice() && value.toDevice().is_cuda()) {
      device = value.toDevice();
      value = c10::Device(c10::kCPU);
    }
  }
  op.redispatchBoxed(c10::DispatchKeySet(host_), stack);
  for (size_t i = 0; i < moved.size(); ++i) {
    if (!written[i]) continue;
    const auto& [on_card, on_host] = moved[i];
    if (on_card.layout() == c10::kStrided) {
      if (on_card.sizes() != on_host.sizes()) on_card.resize_(on_host.sizes());
      on_card.copy_(on_host);
    } else {
      on_card.unsafeGetTensorImpl()->shallow_copy_from(on_host.to(device).getIntrusivePtr());
    }
  }
  const auto to_card = [&](const Tensor& result) {
    for (const auto& [on_card, on_host] : moved) {
      if (result.defined() && on_host.unsafeGetTensorImpl() == result.unsafeGetTensorImpl()) return on_card;
    }
    return result.defined() && result.is_cpu() ? result.to(device) : result;
  };
  const size_t returned = op.schema().returns().size();
  for (size_t i = stack->size() - returned; i < stack->size(); ++i) replace_tensors((*stack)[i], to_card);
}

bool sparse_works_without_kernels(const c10::OperatorHandle& op) {
  static const std::unordered_set<std::string> names{"aten::sparse_dim",
                                                     "aten::_dimI",
                                                     "aten::dense_dim",
                                                     "aten::_dimV",
                                                     "aten::_nnz",
                                                     "aten::is_coalesced",
                                                     "aten::_coalesced_",
                                                     "aten::_indices",
                                                     "aten::_values",
                                                     "aten::indices",
                                                     "aten::values",
                                                     "aten::crow_indices",
                                                     "aten::col_indices",
                                                     "aten::ccol_indices",
                                                     "aten::row_indices",
                                                     "aten::sparse_resize_",
                                                     "aten::sparse_resize_and_clear_",
                                                     "aten::resize_as_sparse_",
                                                     "aten::resize_",
                                                     "aten::empty",
                                                     "aten::empty_like",
                                                     "aten::_sparse_coo_tensor_with_dims",
                                                     "aten::_sparse_coo_tensor_with_dims_and_tensors",
                                                     "aten::copy_",
                                                     "aten::copy_sparse_to_sparse_",
                                                     "aten::clone",
                                                     "aten::detach",
                                                     "aten::_to_copy",
                                                     "aten::is_pinned",
                                                     "aten::_pin_memory"};
  return names.count(op.operator_name().name) > 0;
}

}  // namespace blackwell_compat::fallback
