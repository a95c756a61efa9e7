// nll_loss: reductions by one block, in a fixed order. A target that is no class makes NaN, and no gradient.
#include "kernels/loss.cuh"
#include "kernels/rows.cuh"

namespace blackwell_compat {

template <typename T>
struct Target {
  using A = Value<T>;
  int64_t target;
  A weight;  // 0 where it is ignored

  __device__ __forceinline__ Target(const LossParams& p, int64_t i) : target(static_cast<const int64_t*>(p.target)[i]) {
    weight = target == p.ignore_index  ? A(0)
             : is_class(p) && p.weight ? A(to_float(static_cast<const T*>(p.weight)[target]))
                                       : A(1);
  }
  __device__ __forceinline__ bool is_class(const LossParams& p) const { return target >= 0 && target < p.classes; }
  __device__ __forceinline__ A loss(const LossParams& p, int64_t i) const {
    if (target == p.ignore_index) return 0;
    if (!is_class(p)) return __uint_as_float(0x7fc00000u);
    const int64_t at = (i / p.inner * p.classes + target) * p.inner + i % p.inner;
    return -weight * to_float(static_cast<const T*>(p.in)[at]);
  }
};

template <typename T>
__device__ __forceinline__ void nll(const LossParams& p) {
  using A = Value<T>;
  const int64_t count = p.samples * p.inner, step = int64_t(gridDim.x) * kLossThreads;
  A sum = 0, total = 0;
  for (int64_t i = int64_t(blockIdx.x) * kLossThreads + threadIdx.x; i < count; i += step) {
    const Target<T> target(p, i);
    const A loss = target.loss(p, i);
    if (p.reduction == LossReduction::kNone) static_cast<T*>(p.out)[i] = Convert<T>::from(loss);
    sum += loss;
    total += target.weight;
  }
  if (p.reduction == LossReduction::kNone) {
    if (blockIdx.x == 0 && threadIdx.x == 0) *static_cast<T*>(p.total_weight) = Convert<T>::from(A(0));
    return;
  }
  const Team team(kLossThreads, false);
  sum = team.reduce(sum, Add());
  total = team.reduce(total, Add());
  if (threadIdx.x) return;
  *static_cast<T*>(p.out) = Convert<T>::from(p.reduction == LossReduction::kMean ? sum / total : sum);
  *static_cast<T*>(p.total_weight) = Convert<T>::from(total);
}

template <typename T>
__device__ __forceinline__ void nll_grad(const LossParams& p) {
  using A = Value<T>;
  constexpr int kSize = Pack<T>::kSize;
  const unsigned inner = static_cast<unsigned>(p.inner), of_sample = static_cast<unsigned>(p.classes) * inner;
  const int64_t size = p.samples * of_sample, first = (int64_t(blockIdx.x) * kLossGradThreads + threadIdx.x) * kSize;
  if (first >= size) return;
  const T* const grads = static_cast<const T*>(p.grad);
  Pack<T> pack;
#pragma unroll
  for (int j = 0; j < kSize; ++j) {
    const unsigned at = static_cast<unsigned>(min(first + j, size - 1)), rest = at % of_sample;
    const int64_t i = int64_t(at / of_sample) * inner + rest % inner, target = static_cast<const int64_t*>(p.target)[i];
    A value = 0;
    if (target == rest / inner && target != p.ignore_index) {
      value = -Target<T>(p, i).weight * to_float(grads[p.reduction == LossReduction::kNone ? i : 0]);
      if (p.reduction == LossReduction::kMean) value /= to_float(*static_cast<const T*>(p.total_weight));
    }
    pack.value[j] = Convert<T>::from(value);
  }
  T* const out = static_cast<T*>(p.out) + first;
  if (first + kSize <= size) {
    *reinterpret_cast<Pack<T>*>(out) = pack;
  } else {
#pragma unroll
    for (int j = 0; j < kSize; ++j) {
      if (first + j < size) out[j] = pack.value[j];
    }
  }
}

}  // namespace blackwell_compat

using namespace blackwell_compat;

BC_ENTRY(compat_loss_nll_f32, 1024, LossParams, nll<float>)
BC_ENTRY(compat_loss_nll_f16, 1024, LossParams, nll<f16>)
BC_ENTRY(compat_loss_nll_bf16, 1024, LossParams, nll<bf16>)
BC_ENTRY(compat_loss_nll_f64, 1024, LossParams, nll<double>)
BC_ENTRY(compat_loss_nll_grad_f32, 256, LossParams, nll_grad<float>)
BC_ENTRY(compat_loss_nll_grad_f16, 256, LossParams, nll_grad<f16>)
BC_ENTRY(compat_loss_nll_grad_bf16, 256, LossParams, nll_grad<bf16>)
BC_ENTRY(compat_loss_nll_grad_f64, 256, LossParams, nll_grad<double>)
