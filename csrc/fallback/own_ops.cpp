// copy_, _local_scalar_dense, native_dropout and resize_.
#include "fallback/own_ops.h"

#include <ATen/ATen.h>

#include "common/own_kernels.h"
#include "fallback/counters.h"
#include "fallback/resize.h"
#include "fallback/shadow.h"
#include "fallback/transfer.h"
#include "runtime/copy.h"
#include "runtime/host_memory.h"

namespace blackwell_compat::fallback {
namespace {

using at::Tensor;

c10::StorageImpl* storage_of(const Tensor& tensor) {
  return tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
}

char* data_of(const Tensor& tensor) {
  return address(storage_of(tensor)) + tensor.storage_offset() * static_cast<int64_t>(tensor.itemsize());
}

// Up to this size a copy within a card goes by the host, whose copies of both are what the next ops read: a weight that is copied
// in each call comes down once.
constexpr int64_t kMostByHost = 4 << 20;  // bytes

// Whether one block of bytes is all there is to move.
bool is_plain_copy(const Tensor& to, const Tensor& from) {
  return to.scalar_type() == from.scalar_type() && to.sizes() == from.sizes() && to.is_conj() == from.is_conj() &&
         to.is_neg() == from.is_neg() && to.layout() == c10::kStrided && from.layout() == c10::kStrided && to.numel() > 0 &&
         to.strides() == from.strides() && to.is_non_overlapping_and_dense();
}

// Copies between devices and within one. What needs arithmetic or strides goes through the CPU's copy_.
class CopyKernel : public c10::OperatorKernel {
 public:
  explicit CopyKernel(const c10::OperatorHandle& op) : within_(op, *own_kernel("aten::copy_")), original_(op) {}

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
    if (original_.there() && only_cards_with_kernels(*stack, 3)) return original_.call(op, stack);
    const auto arguments = torch::jit::last(*stack, 3);
    const Tensor to = arguments[0].toTensor(), from = arguments[1].toTensor();
    const bool within = to.device() == from.device();
    if (within && kernels_chosen(to.device())) return within_(op, keys, stack);
    const bool done = is_plain_copy(to, from) ? moved(to, from, arguments[2].toBool()) : !within && converted(to, from);
    if (!done) return within_(op, keys, stack);
    torch::jit::drop(*stack, 3);
    torch::jit::push(*stack, to);
  }

 private:
  static bool moved(const Tensor& to, const Tensor& from, bool non_blocking) {
    const int64_t bytes = to.numel() * static_cast<int64_t>(to.itemsize());
    if (from.is_cuda() && find_shadow(storage_of(from))) return false;  // it is on the host already
    if (to.is_cuda() && is_ahead(storage_of(to))) return false;         // what is around it is there alone
    const bool within_card = to.is_cuda() && from.device() == to.device();
    if (within_card && bytes <= kMostByHost && !runtime::is_capturing(to.device())) return false;
    static const std::string name = "aten::copy_";
    const Counting counting(name);
    const int64_t begin = to.storage_offset() * static_cast<int64_t>(to.itemsize());
    if (to.is_cuda() && from.is_cpu()) {
      const Writing writing(storage_of(to), begin, begin + bytes);
      runtime::copy_to_device(data_of(to), from.const_data_ptr(), bytes, to.device(), runtime::current_stream(to.device()));
      count_to_device(bytes);
      // Pinned memory that the user frees meanwhile would be handed out again; the driver has read any other by now
      if (!non_blocking)
        runtime::synchronize(to.device());
      else if (from.is_pinned())
        runtime::keep_until_done(from.storage(), to.device());
      return true;
    }
    if (to.is_cpu() && from.is_cuda()) {
      const bool later = non_blocking && to.is_pinned();
      const auto copy = later ? runtime::copy_to_pinned : runtime::copy_to_host;
      copy(to.mutable_data_ptr(), data_of(from), bytes, from.device());
      count_to_host(bytes);
      if (later) runtime::keep_until_done(to.storage(), from.device());
      return true;
    }
    if (to.is_cuda() && from.is_cuda()) {
      const Writing writing(storage_of(to), begin, begin + bytes);
      runtime::copy_between(data_of(to), to.device(), data_of(from), from.device(), bytes);
      return true;
    }
    return false;
  }

  // Between the host and a card on which kernels of ours convert what is not a block of bytes.
  static bool converted(const Tensor& to, const Tensor& from) {
    const Tensor& there = to.is_cuda() ? to : from;
    const Tensor& here = to.is_cuda() ? from : to;
    if (!here.is_cpu() || here.layout() != c10::kStrided || there.layout() != c10::kStrided || !kernels_chosen(there.device()))
      return false;
    if (from.is_cuda() && find_shadow(storage_of(from))) return false;
    if (to.numel() == 0) return true;
    if (to.is_cuda()) {
      to.copy_(from.resolve_conj().resolve_neg().contiguous().to(to.device()));
      return true;
    }
    const bool dense = to.is_non_overlapping_and_dense();
    const Tensor same = dense ? at::empty_strided(to.sizes(), to.strides(), to.options().device(from.device()))
                              : at::empty(to.sizes(), to.options().device(from.device()));
    same.copy_(from);
    to.copy_(dense ? same : same.cpu());
    return true;
  }

  ChosenKernel within_;
  const Original original_;
};

at::Scalar local_scalar(const Tensor& self) {
  static const std::string name = "aten::_local_scalar_dense";
  const Counting counting(name);
  Tensor host = at::empty({}, self.options().device(at::kCPU));
  const auto item = static_cast<int64_t>(self.itemsize());
  if (const c10::Storage shadow = find_shadow(storage_of(self))) {
    std::memcpy(host.mutable_data_ptr(), static_cast<const char*>(shadow.data()) + self.storage_offset() * item, item);
  } else {
    runtime::copy_to_host(host.mutable_data_ptr(), data_of(self), item, self.device());
    count_to_host(item);
  }
  if (self.is_conj()) host._set_conj(true);
  if (self.is_neg()) host._set_neg(true);
  return host.item();
}

// From parts that take the card's generator, which native_dropout has no argument for.
std::tuple<Tensor, Tensor> dropout(const Tensor& input, double p, std::optional<bool> train) {
  const auto mask_options = input.options().dtype(at::kBool);
  if (input.numel() == 0 || (train && !*train)) return {input.clone(), at::ones_like(input, mask_options)};
  const Tensor mask = at::empty_like(input, mask_options).bernoulli_(1 - p);
  return {input * mask * (p == 1 ? 0 : 1 / (1 - p)), mask};
}

// Ours, but for cards that run PyTorch's kernels; first a kernel of this package where there is one.
template <void (*ours)(torch::jit::Stack*)>
class OwnKernel : public c10::OperatorKernel {
 public:
  explicit OwnKernel(const c10::OperatorHandle& op) : original_(op) {
    if (const Attempt* const own = own_kernel(full_name(op.operator_name()))) chosen_.emplace(op, *own);
  }

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
    if (chosen_ && chosen_->attempt(op, keys, stack)) return;
    if (original_.there() && only_cards_with_kernels(*stack, op.schema().arguments().size())) return original_.call(op, stack);
    const at::AutoDispatchBelowADInplaceOrView below;
    ours(stack);
  }

 private:
  const Original original_;
  std::optional<ChosenKernel> chosen_;
};

void boxed_local_scalar(torch::jit::Stack* stack) { stack->back() = local_scalar(stack->back().toTensor()); }

void boxed_dropout(torch::jit::Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  auto [result, mask] = dropout(arguments[0].toTensor(), arguments[1].toDouble(), arguments[2].toOptional<bool>());
  torch::jit::drop(*stack, 3);
  torch::jit::push(*stack, std::move(result), std::move(mask));
}

void boxed_resize(torch::jit::Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  const Tensor self = arguments[0].toTensor();
  const auto sizes = arguments[1].toSymIntVector();
  fallback::resize(self, C10_AS_INTARRAYREF_SLOW(sizes), arguments[2].toOptional<at::MemoryFormat>());
  torch::jit::drop(*stack, 3);
  torch::jit::push(*stack, self);
}

template <typename Kernel>
void add(torch::Library& library, const char* name) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow((std::string("aten::") + name).c_str(), "");
  library.impl(name, torch::CppFunction::makeFromBoxedFunctor(std::make_unique<Kernel>(op)));
}

}  // namespace

bool is_own_op(const c10::OperatorName& name) {
  return name.overload_name.empty() && (name.name == "aten::copy_" || name.name == "aten::_local_scalar_dense" ||
                                        name.name == "aten::native_dropout" || name.name == "aten::resize_");
}

void add_own_ops(torch::Library& library) {
  add<CopyKernel>(library, "copy_");
  add<OwnKernel<boxed_local_scalar>>(library, "_local_scalar_dense");
  add<OwnKernel<boxed_dropout>>(library, "native_dropout");
  add<OwnKernel<boxed_resize>>(library, "resize_");
}

}  // namespace blackwell_compat::fallback
