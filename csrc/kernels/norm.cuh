// Normalisation of layers, groups, instances and batches, and its gradients. What the host and the card share.
#pragma once
#include "kernels/team.cuh"

namespace blackwell_compat {

constexpr int kNormThreads = 256;

// A dense tensor of (samples, channels, inner) values, or with the channels last. A statistic belongs to a sample's group of
// channels, or where it is not `per_sample` to a channel. Kernels on rows have the `n` values of a statistic next to each other.
// Pointers may be null where PyTorch's tensors may be undefined, and where a kernel has no use for them.
struct NormParams {
  const void *in, *grad, *weight, *bias;
  const void *mean, *rstd;  // of statistics that are there; `rstd` is a variance where `of_variance`
  void *out, *out_mean, *out_rstd;
  void *running_mean, *running_var;
  // Of the gradient with respect to the output, and of that times the normalised input: a statistic's mean with weights, and the
  // sums of each channel of each sample, or of each part of the rows, from which those of the parameters are made
  void *mean_grad, *mean_dot, *sum_grad, *sum_dot;
  void *grad_weight, *grad_bias;
  long long samples, channels, inner, groups;
  long long rows, n, part;  // rows of a part, for sums over columns
  double eps, momentum;
  int team, columns;
  // wide: in the type of the arithmetic, float32 for half precision
  bool packs, centered, per_sample, channels_last, of_variance, wide_weight, wide_statistics;
};

}  // namespace blackwell_compat
