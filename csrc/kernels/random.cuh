// Random numbers of Philox4x32-10, drawn as PyTorch's kernels draw them. What the host and the card share.
#pragma once

namespace blackwell_compat {

constexpr int kRandomThreads = 256;

enum class Drawn : int { kUniform, kNormal, kExponential, kCauchy, kGeometric, kLogNormal, kBernoulli, kBits };
enum class Cell : int { kFloat, kDouble, kHalf, kBFloat16, kByte, kChar, kShort, kInt, kLong, kBool };

// Thread i of the grid draws from sequence i of the generator from `offset` on, four numbers of 32 bits at a time, or two of 64,
// and gives them to elements that lie the number of threads apart.
struct RandomParams {
  void* to;
  unsigned long long seed, offset;
  long long size;
  double a, b, end;          // the distribution's arguments; of a uniform one its begin, width and end
  unsigned long long range;  // of bits: what is drawn modulo this (0: all of them), and `base`
  long long base;
  Drawn drawn;
  Cell cell;
  bool wide;  // two of 64 bits
};

// bernoulli_ of a tensor of probabilities: thread i draws for elements 4 i to 4 i + 3
struct ChancesParams {
  void* to;
  const void* chances;  // float, or double where the result is
  unsigned long long seed, offset;
  long long size;
  Cell cell;
};

struct DropoutParams {
  const void* from;
  void* to;
  unsigned char* mask;
  unsigned long long seed, offset;
  long long size;
  float keep, scale;
  double wide_keep, wide_scale;
  int width;  // so many elements lie side by side for a thread, which takes whole fours of numbers for them: 2, 4 or 8, and a
              // divisor of `size`. At 1 they lie the number of threads apart, and a thread takes four of them a time.
};

}  // namespace blackwell_compat
