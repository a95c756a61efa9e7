// The gradient of a convolution's weight.
#pragma once
#include "kernels/conv1d.cuh"
#include "kernels/gemm_product.cuh"
#include "kernels/gemm_store.cuh"

namespace blackwell_compat {

// The positions of `shorter` that meet `longer` at a tap.
struct Overlap {
  int64_t begin, end;

  __device__ Overlap(const Conv1dGradParams& p, int64_t offset) {
    const int64_t last = p.longer_length - 1 - offset;
    begin = offset < 0 ? (-offset + p.stride - 1) / p.stride : 0;
    end = last < 0 ? 0 : min(p.shorter_length, last / p.stride + 1);
    if (end < begin) end = begin;
  }
};

template <typename T>
struct Conv1dGradTraits {
  using scalar_t = typename Stored<T>::type;
  static constexpr int kSize = kConv1dGradTile;
  using Chosen = blackwell_compat::Product<T, kSize, kSize, Order::kStrided, Order::kStrided>;
  using Product = typename Chosen::type;
  static constexpr int kThreads = Chosen::kThreads;
  using Shape = TileShape<scalar_t, kSize, Order::kStrided>;
  using Loader = TileLoader<scalar_t, kSize, kThreads, Order::kStrided>;
};

// Where the sums of a tile go: neighbours lie the taps of a kernel apart
template <typename T, typename A>
struct Conv1dGradEnd {
  static constexpr int kCount = 1;
  static constexpr bool vectors = false;

  const Conv1dGradParams& p;
  unsigned split;
  int group, first_a, first_b, tap;

  __device__ bool activates() const { return false; }
  __device__ __forceinline__ A finished(int, int, A value) const { return value; }
  __device__ __forceinline__ void store_vector(int, int, A (&)[kCount]) const {}
  __device__ __forceinline__ void store(int row, int column, A sum) const {
    const int64_t of_a = first_a + row, of_b = first_b + column;
    if (of_a >= p.shorter_channels || of_b >= p.longer_channels) return;
    const int64_t results = int64_t(p.groups) * p.shorter_channels * p.longer_channels * p.kernel;
    const int64_t at = ((group * p.shorter_channels + of_a) * p.longer_channels + of_b) * p.kernel + tap;
    if (p.partial) {
      static_cast<A*>(p.partial)[split * results + at] = sum;
    } else {
      static_cast<T*>(p.out)[at] = Convert<T>::from(sum);
    }
  }
};

// A block has a tile of channels by channels of one tap: their product over positions, one sample after the other.
template <class Traits>
__device__ __forceinline__ void conv1d_grad(const Conv1dGradParams& p) {
  using T = typename Traits::scalar_t;
  using A = typename Accumulator<T>::type;
  using Shape = typename Traits::Shape;
  BC_SHARED(shared);
  T* const tiles_a = reinterpret_cast<T*>(shared);
  T* const tiles_b = tiles_a + kConv1dStages * Shape::kSize;

  unsigned i = blockIdx.x;
  const int tap = i % p.kernel;
  i /= p.kernel;
  const int first_b = i % p.column_tiles * Traits::kSize;
  i /= p.column_tiles;
  const int first_a = i % p.row_tiles * Traits::kSize;
  i /= p.row_tiles;
  const int group = i % p.groups;
  const unsigned split = i / p.groups;

  const int64_t offset = int64_t(tap) * p.dilation - p.padding;
  const Overlap overlap(p, offset);
  const int64_t chunks = (overlap.end - overlap.begin + Shape::kDepth - 1) / Shape::kDepth, all = chunks * p.batch;
  const int64_t begin = all * split / p.splits, end = all * (split + 1) / p.splits;
  const T* const a = static_cast<const T*>(p.shorter) + (int64_t(group) * p.shorter_channels + first_a) * p.shorter_channel;
  const T* const b = static_cast<const T*>(p.longer) + (int64_t(group) * p.longer_channels + first_b) * p.longer_channel +
                     offset * p.longer_position;

  typename Traits::Loader load_a(a, p.shorter_channel, p.shorter_position, p.shorter_channels - first_a);
  typename Traits::Loader load_b(b, p.longer_channel, p.longer_position * p.stride, p.longer_channels - first_b);
  const auto start = [&](int64_t step) {
    const int64_t batch = step / chunks, position = overlap.begin + step % chunks * Shape::kDepth;
    const int left = static_cast<int>(min(overlap.end - position, int64_t(Shape::kDepth)));
    load_a.seek_elements(batch * p.shorter_batch + position * p.shorter_position, step < end ? left : 0);
    load_b.seek_elements(batch * p.longer_batch + position * p.stride * p.longer_position, step < end ? left : 0);
    load_a.start(nullptr);
    load_b.start(nullptr);
  };
  const auto finish = [&](int64_t step) {
    load_a.finish(tiles_a + step % kConv1dStages * Shape::kSize);
    load_b.finish(tiles_b + step % kConv1dStages * Shape::kSize);
    __syncthreads();
  };
  const auto at = [&](int64_t step) {
    return Tiles<T>{tiles_a + step % kConv1dStages * Shape::kSize, tiles_b + step % kConv1dStages * Shape::kSize};
  };

  typename Traits::Product product;
  if (begin < end) {
    start(begin);
    finish(begin);
    product.begin(at(begin));
    for (int64_t step = begin; step < end; ++step) {  // multiplies one pair of tiles while the next is on its way
      product.step(
          at(step), [&] { start(step + 1); },
          [&] {
            finish(step + 1);
            return at(step + 1);
          });
    }
  }

  product.end();
  store_tile<Traits::kSize, Traits::kThreads, false>(product, reinterpret_cast<A*>(shared),
                                                     Conv1dGradEnd<T, A>{p, split, group, first_a, first_b, tap});
}

// A block has one value: for few channels a group.
template <typename T>
__device__ __forceinline__ void conv1d_grad_direct(const Conv1dGradParams& p) {
  using A = typename Accumulator<T>::type;
  constexpr int kPart = 64;
  BC_SHARED(shared);
  const int64_t at = blockIdx.x;
  const int tap = static_cast<int>(at % p.kernel), of_b = static_cast<int>(at / p.kernel % p.longer_channels);
  const int64_t of_a = at / p.kernel / p.longer_channels, group = of_a / p.shorter_channels;
  const int64_t offset = int64_t(tap) * p.dilation - p.padding;
  const Overlap overlap(p, offset);

  A sum = 0;
  for (int batch = 0; batch < p.batch; ++batch) {
    const T* const a = static_cast<const T*>(p.shorter) + batch * p.shorter_batch + of_a * p.shorter_channel;
    const T* const b = static_cast<const T*>(p.longer) + batch * p.longer_batch +
                       (group * p.longer_channels + of_b) * p.longer_channel + offset * p.longer_position;
    for (int64_t from = overlap.begin + threadIdx.x; from < overlap.end; from += kPart * kConv1dGradThreads) {
      A part = 0;
#pragma unroll 4
      for (int64_t l = from; l < min(overlap.end, from + kPart * kConv1dGradThreads); l += kConv1dGradThreads) {
        part += to_float(a[l * p.shorter_position]) * (p.longer ? to_float(b[l * p.stride * p.longer_position]) : A(1));
      }
      sum += part;
    }
  }
  A* const sums = reinterpret_cast<A*>(shared);
  sums[threadIdx.x] = sum;
  for (unsigned width = kConv1dGradThreads / 2; width > 0; width /= 2) {
    __syncthreads();
    if (threadIdx.x < width) sums[threadIdx.x] += sums[threadIdx.x + width];
  }
  if (threadIdx.x == 0) static_cast<T*>(p.out)[at] = Convert<T>::from(sums[0]);
}

}  // namespace blackwell_compat
