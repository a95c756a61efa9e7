// Which arithmetic a tile takes.
#pragma once
#include "kernels/gemm_mma.cuh"
#include "kernels/gemm_simt.cuh"
#include "kernels/gemm_store.cuh"

namespace blackwell_compat {

// A tile's arithmetic, by the card that this is compiled for: 1 is the tensor cores' of sm_70, 2 that of the later ones
template <typename T>
constexpr int kTensorCores = 0;
template <>
constexpr int kTensorCores<f16> = kArchitecture >= 750   ? 2
                                  : kArchitecture >= 700 ? 1
                                                         : 0;
template <>
constexpr int kTensorCores<bf16> = kArchitecture >= 800 ? 2 : 0;
template <>
constexpr int kTensorCores<tf32> = kArchitecture >= 800 ? 2 : 0;

// A tile's product, and how many threads make it; without tensor cores as many as asked for. `ahead`: see MmaProduct
template <typename T, int kRows, int kColumns, Order a, Order b, bool ahead = true,
          int kSimtThreads = gemm_threads(kRows, kColumns, false), int tensor_cores = kTensorCores<T>>
struct Product {
  using S = typename Stored<T>::type;
  using type = SimtProduct<S, typename Accumulator<S>::type, kRows, kColumns, kSimtThreads, a, b>;
  static constexpr int kThreads = kSimtThreads;
};
template <int kRows, int kColumns, Order a, Order b, bool ahead, int kSimtThreads>
struct Product<f16, kRows, kColumns, a, b, ahead, kSimtThreads, 1> {
  using type = VoltaProduct<kRows, kColumns, a, b>;
  static constexpr int kThreads = gemm_threads(kRows, kColumns, true);
};
template <typename T, int kRows, int kColumns, Order a, Order b, bool ahead, int kSimtThreads>
struct Product<T, kRows, kColumns, a, b, ahead, kSimtThreads, 2> {
  using type = MmaProduct<T, kRows, kColumns, a, b, ahead>;
  static constexpr int kThreads = gemm_threads(kRows, kColumns, true);
};

}  // namespace blackwell_compat
