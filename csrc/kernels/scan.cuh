// Running sums, products, extremes along one dimension. What the host and the card share.
#pragma once
#include "kernels/team.cuh"

namespace blackwell_compat {

constexpr int kScanValues = 8;  // that a thread has of a row at a time
constexpr int kMostScanTeam = 512, kScanSharedBytes = kMostScanTeam * 16;

// Dense tensors of (outer, n, inner) values, a row for each of outer and inner. `indices` are written for extremes alone.
struct ScanParams {
  const void* in;
  void *out, *indices;
  long long rows, n, inner;
  int team;
  bool smallest;
};

}  // namespace blackwell_compat
