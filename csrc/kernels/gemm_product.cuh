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

// The sum over `steps` pairs of tiles. Shared memory has kStages of them: one is multiplied while the others are on their way.
// start(stage) sets out for the next pair; finish(stage) comes after the arithmetic that runs meanwhile; at(stage): where it is.
template <int kStages, class Product, class Start, class Finish, class At>
__device__ __forceinline__ void multiply_steps(Product& product, int steps, Start start, Finish finish, At at) {
  constexpr int kAhead = kStages - 1;
  const auto end = [&](int stage) {
    finish(stage);
    async_commit();
  };
  const auto arrived = [&] {  // the tiles that come next; no thread reads the last ones any more
    async_wait<kAhead - 1>();
    __syncthreads();
  };
#pragma unroll
  for (int stage = 0; stage < kAhead; ++stage) {
    start(stage);
    end(stage);
  }
  arrived();
  int stage = 0, free_stage = kAhead;
  product.begin(at(stage));
  for (int step = 0; step < steps; ++step) {
    product.step(
        at(stage), [&] { start(free_stage); },
        [&] {
          end(free_stage);
          arrived();
          free_stage = stage;
          stage = stage + 1 == kStages ? 0 : stage + 1;
          return at(stage);
        });
  }
  async_wait<0>();  // what goes beyond the last step is on its way, too
  product.end();
}

}  // namespace blackwell_compat
