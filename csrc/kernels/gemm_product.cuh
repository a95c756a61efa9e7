// Which arithmetic a tile takes.
#pragma once
#include "kernels/gemm_mma.cuh"
#include "kernels/gemm_simt.cuh"
#include "kernels/gemm_store.cuh"

namespace blackwell_compat {

struct tf32 {};  // float32 in memory

template <typename T>
struct Stored {
  using type = T;
};
template <>
struct Stored<tf32> {
  using type = float;
};

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

template <typename T, int kTile, Order a, Order b, int kThreads = gemm_threads(kTile), int tensor_cores = kTensorCores<T>>
struct Product {
  using type = SimtProduct<typename Stored<T>::type, typename Accumulator<T>::type, kTile, kThreads, a, b>;
};
template <int kTile, Order a, Order b, int kThreads>
struct Product<f16, kTile, a, b, kThreads, 1> {
  using type = VoltaProduct<kTile, a, b>;
};
template <typename T, int kTile, Order a, Order b, int kThreads>
struct Product<T, kTile, a, b, kThreads, 2> {
  using type = MmaProduct<T, kTile, a, b>;
};
template <int kTile, Order a, Order b, int kThreads>
struct Product<tf32, kTile, a, b, kThreads, 2> {
  using type = Tf32Product<kTile, a, b>;
};

}  // namespace blackwell_compat
