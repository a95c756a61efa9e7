// gemv: gemm.cuh's product where a has few rows. What the host and the card share.
#pragma once
#include "kernels/gemm.cuh"

namespace blackwell_compat {

constexpr int kGemvThreads = 128;

// Columns of the result that a block has
constexpr int gemv_columns(int rows) { return rows <= 4 ? 4 : 2; }            // K along the lines of b
constexpr int gemv_columns_across(int element) { return 32 * 16 / element; }  // its rows along them

constexpr int gemv_shared_bytes(int rows, int accumulator) { return rows * gemv_columns(rows) * kGemvThreads / 32 * accumulator; }
constexpr int gemv_shared_bytes_across(int element, int accumulator) {
  return kGemvThreads / 32 * gemv_columns_across(element) * accumulator;
}

}  // namespace blackwell_compat
