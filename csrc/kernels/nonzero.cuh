// nonzero: where elements are, in order. What the host and the card share.
#pragma once

namespace blackwell_compat {

constexpr int kNonzeroThreads = 256, kNonzeroRounds = 16, kNonzeroDims = 12;
constexpr int kNonzeroTile = kNonzeroThreads * kNonzeroRounds;
constexpr int kNonzeroSharedBytes = 2 * kNonzeroThreads / 32 * 4;  // two counts of each warp
constexpr int kNonzeroSumSharedBytes = kNonzeroThreads * 8;

struct NonzeroParams {
  const void* from;   // contiguous
  long long* counts;  // of each tile; then how many there are before it, and of all one behind them
  long long* to;      // (dims, total)
  long long size, total, tiles;
  unsigned long long mask;  // the bits of an element, or of each half of one of 16 bytes, that make it nonzero
  long long sizes[kNonzeroDims];
  int dims;
};

}  // namespace blackwell_compat
