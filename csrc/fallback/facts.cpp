// The tables: each line was met as a failure on a wheel without kernels for the card.
#include "fallback/facts.h"

#include <unordered_map>
#include <unordered_set>

namespace blackwell_compat::fallback {
namespace {

using Names = std::unordered_set<std::string>;

// Overwrites its first argument whatever it was; for out= arguments the schema says it.
const Names& overwriters() {
  static const Names names{"aten::copy_",         "aten::fill_",      "aten::zero_",      "aten::normal_",
                           "aten::uniform_",      "aten::random_",    "aten::bernoulli_", "aten::exponential_",
                           "aten::log_normal_",   "aten::geometric_", "aten::cauchy_",    "aten::_foreach_zero_",
                           "aten::_foreach_copy_"};
  return names;
}

// Arguments that are written although the schema calls them read-only.
const std::unordered_map<std::string, std::vector<size_t>>& hidden_writes() {
  static const std::unordered_map<std::string, std::vector<size_t>> places{{"aten::native_batch_norm", {3, 4}},
                                                                           {"aten::cudnn_batch_norm", {3, 4}},
                                                                           {"aten::miopen_batch_norm", {3, 4}},
                                                                           {"aten::_batch_norm_impl_index", {3, 4}},
                                                                           {"aten::batch_norm", {3, 4}},
                                                                           {"aten::batch_norm_update_stats", {1, 2}},
                                                                           {"aten::batch_norm_gather_stats", {3, 4}},
                                                                           {"aten::batch_norm_gather_stats_with_counts", {3, 4}},
                                                                           {"aten::rrelu_with_noise", {1}},
                                                                           {"aten::rrelu_with_noise_", {1}}};
  return places;
}

const Names& matrix_products() {
  static const Names names{"aten::mm",
                           "aten::addmm",
                           "aten::bmm",
                           "aten::baddbmm",
                           "aten::addbmm",
                           "aten::mv",
                           "aten::addmv",
                           "aten::dot",
                           "aten::convolution",
                           "aten::_convolution",
                           "aten::convolution_backward"};
  return names;
}

// Ops that take tensors of the CPU beside those of a card: indices, lengths, and what moves data.
const Names& device_mixers() {
  static const Names names{"aten::copy_",
                           "aten::_copy_from",
                           "aten::_copy_from_and_resize",
                           "aten::index",
                           "aten::index_put_",
                           "aten::_index_put_impl_",
                           "aten::index_put",
                           "aten::_unsafe_index",
                           "aten::_unsafe_index_put",
                           "aten::_ctc_loss",
                           "aten::_nested_from_padded",
                           "aten::_cudnn_rnn",
                           "aten::_thnn_fused_lstm_cell",
                           "aten::segment_reduce",
                           "aten::_foreach_copy_",
                           "aten::_foreach_copy",
                           "aten::_segment_reduce_backward",
                           "aten::_ctc_loss_backward"};
  return names;
}

// Layers, whose weight and bias may have been released from the card to the host (patch_model, keep_on_device).
const Names& layers() {
  static const Names names{"blackwell_compat::compat_linear", "blackwell_compat::compat_conv1d",
                           "blackwell_compat::compat_conv_transpose1d"};
  return names;
}

// By overload, since other overloads of the same op compute.
const Names& kept() {
  static const Names names{"aten::empty.memory_format",
                           "aten::empty_strided",
                           "aten::_efficientzerotensor",
                           "aten::as_strided",
                           "aten::view",
                           "aten::_reshape_alias",
                           "aten::unfold",
                           "aten::view_as_real",
                           "aten::view_as_complex",
                           "aten::set_",
                           "aten::set_.source_Storage",
                           "aten::set_.source_Storage_storage_offset",
                           "aten::set_.source_Tensor",
                           "aten::is_set_to",
                           "aten::record_stream",
                           "aten::is_pinned",
                           "aten::_pin_memory",
                           "aten::_fused_sdp_choice",
                           "aten::_cudnn_init_dropout_state",
                           "aten::_use_cudnn_ctc_loss",
                           "aten::_use_cudnn_ctc_loss.Tensor",
                           "aten::_use_miopen_ctc_loss",
                           "aten::_use_miopen_ctc_loss.Tensor",
                           "aten::_nested_view_from_buffer",
                           "aten::_nested_compute_contiguous_strides_offsets"};
  return names;
}

}  // namespace

std::string full_name(const c10::OperatorName& name) {
  return name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
}

OpFacts::OpFacts(const c10::OperatorHandle& op)
    : name(full_name(op.operator_name())),
      matrix_product(matrix_products().count(op.operator_name().name) > 0),
      mixes_devices(device_mixers().count(op.operator_name().name) > 0) {
  const auto& all = op.schema().arguments();
  arguments.resize(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const c10::AliasInfo* alias = all[i].alias_info();
    arguments[i].written = alias && alias->isWrite();
    arguments[i].overwritten =
        arguments[i].written && (all[i].is_out() || (i == 0 && overwriters().count(op.operator_name().name) > 0));
    arguments[i].host_too = i > 0 && layers().count(name) > 0;
    if (all[i].name() == "dtype") dtype_argument = static_cast<int>(i);
    if (all[i].name() == "generator") generator_argument = static_cast<int>(i);
  }
  const auto hidden = hidden_writes().find(op.operator_name().name);
  if (hidden != hidden_writes().end()) {
    for (const size_t place : hidden->second) arguments.at(place).written = true;
  }
}

bool works_without_kernels(const c10::OperatorHandle& op) {
  const std::string name = full_name(op.operator_name());
  return kept().count(name) > 0;
}

void check_runs_on_host(const c10::OperatorHandle& op, const std::string& name, c10::DispatchKey host) {
  if (op.hasComputedKernelForDispatchKey(host)) return;
  const bool attention = name.find("attention") != std::string::npos;
  TORCH_CHECK_NOT_IMPLEMENTED(false, name,
                              ": PyTorch has a kernel of it for CUDA, which does not work on this card, and none for ", host,
                              attention ? "; call torch.nn.functional.scaled_dot_product_attention" : "; call another op");
}

const std::vector<std::string>& hidden_launchers() {
  static const std::vector<std::string> names{"aten::convolution", "aten::convolution_backward", "aten::conj_physical_",
                                              "aten::nanmean.out"};
  return names;
}

}  // namespace blackwell_compat::fallback
