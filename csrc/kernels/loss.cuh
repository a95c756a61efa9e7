// The negative log likelihood of target classes, and its gradient. What the host and the card share.
#pragma once

namespace blackwell_compat {

constexpr int kLossThreads = 1024, kLossSharedBytes = 2 * kLossThreads / 32 * 8, kLossGradThreads = 256;

enum class LossReduction : int { kNone, kMean, kSum };

// Dense values (samples, classes, inner), int64 targets (samples, inner), weights of classes or null
struct LossParams {
  const void *in, *target, *weight, *grad;
  void *out, *total_weight;
  long long samples, classes, inner, ignore_index;
  LossReduction reduction;
};

}  // namespace blackwell_compat
