// Moves the arguments with Tensor.to, which splits a sparse tensor into its indices and values.
#include "fallback/sparse.h"

#include <ATen/ATen.h>
#include <ATen/SparseCsrTensorImpl.h>

#include <string>
#include <unordered_set>
#include <utility>

#include "fallback/counters.h"
#include "fallback/values.h"

namespace blackwell_compat::fallback {

using at::Tensor;
using c10::IValue;

namespace {

// Gives a tensor of a card what the one of the host has now.
void assign(const Tensor& to, const Tensor& host) {
  if (to.layout() == c10::kStrided) {
    if (!to.is_nested() && to.sizes() != host.sizes()) to.resize_(host.sizes());
    to.copy_(host);
    return;
  }
  const Tensor from = host.to(to.device());
  if (to.is_sparse()) return to.unsafeGetTensorImpl()->shallow_copy_from(from.getIntrusivePtr());
  // A compressed one's shallow_copy_from leaves its parts out
  const auto* parts = static_cast<const at::SparseCsrTensorImpl*>(from.unsafeGetTensorImpl());
  static_cast<at::SparseCsrTensorImpl*>(to.unsafeGetTensorImpl())
      ->set_member_tensors(parts->compressed_indices(), parts->plain_indices(), parts->values(), from.sizes());
}

}  // namespace

void LayoutKernel::operator()(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  check_runs_on_host(op, facts_.name, host_);
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
    // A nested tensor moves as one buffer, which a transposed one does not have
    moved.emplace_back(tensor, (tensor.is_nested() ? tensor.contiguous() : tensor).to(c10::kCPU));
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
    if (written[i]) assign(moved[i].first, moved[i].second);
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

bool layout_works_without_kernels(const c10::OperatorHandle& op, c10::DispatchKey card) {
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
                                                     "aten::_pin_memory",
                                                     "aten::alias",
                                                     "aten::is_same_size",
                                                     "aten::_nested_tensor_size",
                                                     "aten::_nested_tensor_strides",
                                                     "aten::_nested_tensor_storage_offsets",
                                                     "aten::_fused_sdp_choice",
                                                     "aten::_empty_affine_quantized",
                                                     "aten::_empty_per_channel_affine_quantized",
                                                     "aten::empty_quantized",
                                                     "aten::empty_strided",
                                                     "aten::set_",
                                                     "aten::_reshape_alias",
                                                     "aten::qscheme",
                                                     "aten::q_scale",
                                                     "aten::q_zero_point",
                                                     "aten::q_per_channel_scales",
                                                     "aten::q_per_channel_zero_points",
                                                     "aten::q_per_channel_axis"};
  // They call the dense op on the buffer of all parts, with the card's generator
  static const std::unordered_set<std::string> of_buffers{"aten::fill_", "aten::zero_", "aten::normal_", "aten::native_dropout",
                                                          "aten::native_dropout_backward"};
  const std::string& name = op.operator_name().name;
  return names.count(name) > 0 || (card == c10::DispatchKey::NestedTensorCUDA && of_buffers.count(name) > 0);
}

}  // namespace blackwell_compat::fallback
