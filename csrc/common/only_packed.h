// What the ops share whose weight exists only in packed form (patch_model's free_original). They are for inference.
#pragma once
#include <vector>

#include "common/dispatch.h"

namespace blackwell_compat {

inline std::vector<int64_t> concrete(c10::SymIntArrayRef sizes) {
  std::vector<int64_t> result;
  for (const c10::SymInt& size : sizes) result.push_back(size.guard_int(__FILE__, __LINE__));
  return result;
}

inline int64_t concrete(const c10::SymInt& size) { return size.guard_int(__FILE__, __LINE__); }

// A tensor of the weight's size, dtype and device, for the checks; its values mean nothing.
inline Tensor stand_in(const Tensor& packed, c10::SymIntArrayRef size) {
  const std::vector<c10::SymInt> zeros(size.size(), 0);
  return packed.as_strided_symint(size, zeros);
}

#define BC_CHECK_PACKED(op, packed, size)                                                                                        \
  BC_CHECK(                                                                                                                      \
      op,                                                                                                                        \
      (packed).scalar_type() == at::kFloat && (packed).dim() == 1 && (packed).sym_size(0) == (size) && (packed).is_contiguous(), \
      "packed must be a contiguous float32 tensor of (", size, ",), as its _pack op returns, got ", (packed).sym_sizes(), " ",   \
      (packed).scalar_type())

#define BC_CHECK_PACKABLE(op, weight, rank)                                                                  \
  BC_CHECK(op, (weight).scalar_type() == at::kFloat && (weight).dim() == (rank) && (weight).sym_numel() > 0, \
           "weight must be float32, " #rank "-D and not empty, got ", (weight).sym_sizes(), " ", (weight).scalar_type())

struct OnlyPackedFunction : torch::autograd::Function<OnlyPackedFunction> {
  static Tensor forward(torch::autograd::AutogradContext*, const Tensor&, const OptTensor&,
                        const std::function<Tensor()>& compute) {
    return compute();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list) {
    TORCH_CHECK(false,
                "patch_model(free_original=True) keeps no weight to differentiate with; call unpatch_model, or patch without "
                "free_original. Where no gradient is wanted, torch.no_grad() avoids this");
  }
};

// The autograd kernel. Only backward() raises: evaluation without no_grad() is common, and gives what it should.
inline Tensor without_gradient(const Tensor& input, const OptTensor& bias, const std::function<Tensor()>& compute) {
  const auto below = [&] {
    at::AutoDispatchBelowADInplaceOrView guard;
    return compute();
  };
  if (!wants_grad({input, value_or_undefined(bias)})) return below();
  return OnlyPackedFunction::apply(input, bias, std::function<Tensor()>(below));
}

// The autocast kernel: rounds the input and the result as the op with a weight does, and computes in float32.
template <typename Compute>
Tensor autocast_around(const Tensor& input, const OptTensor& bias, const Compute& compute) {
  using Cast = Autocast<c10::kCPU>;
  c10::impl::ExcludeDispatchKeyGuard off(Cast::key);
  const Tensor low = Cast::low(input);
  if (low.scalar_type() == input.scalar_type() && input.scalar_type() == at::kDouble) return compute(input, bias);
  return compute(low.to(at::kFloat), bias ? OptTensor(bias->to(at::kFloat)) : bias).to(low.scalar_type());
}

}  // namespace blackwell_compat
