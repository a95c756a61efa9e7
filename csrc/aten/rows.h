// Launches of kernels whose threads share rows (kernels/team.cuh).
#pragma once
#include <ATen/ATen.h>

#include "common/ceil_div.h"
#include "kernels/team.cuh"
#include "runtime/device_info.h"
#include "runtime/kernels.h"

namespace blackwell_compat {

constexpr int64_t kMostRowElements = (int64_t{1} << 31) - kMostTeam * kRowValues;  // kernels count in int, to a team's end
constexpr int kTeamThreads = 256, kLeastTeamThreads = 32;

inline bool is_pack_aligned(const at::Tensor& tensor) { return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0; }

// Whether rows of n values may be read 16 bytes at a time, where they begin at the tensors' own addresses
template <typename... Tensors>
bool rows_are_packs(int64_t n, const at::Tensor& first, const Tensors&... others) {
  return n * first.element_size() % 16 == 0 && is_pack_aligned(first) && (... && (!others.defined() || is_pack_aligned(others)));
}

// Teams of as many threads as team_of says
inline runtime::Grid team_grid(int64_t rows, int team, c10::Device device) {
  const int64_t wanted = runtime::device_info(device).multiprocessors;
  int threads = std::max(team, kTeamThreads);
  while (threads > std::max(team, kLeastTeamThreads) && ceil_div(rows * team, threads) < wanted) threads /= 2;
  return {ceil_div(rows * team, threads), threads, kTeamSharedBytes};
}

inline runtime::Grid column_grid(int64_t columns, int columns_of_block) {
  return {ceil_div(columns, columns_of_block), kColumnThreads, kColumnSharedBytes};
}

}  // namespace blackwell_compat
