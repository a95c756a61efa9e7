// upsample: values between those of an image, and their gradients. What the host and the card share.
#pragma once

namespace blackwell_compat {

// Of PyTorch's: nearest, nearest-exact, linear (bilinear, bicubic), that with align_corners
enum class Between : int { kNearest, kExact, kLinear, kCorners };

// Strides count elements: of `in`, which is the image, for gradients the one of the result; `out` is dense in either layout.
struct UpsampleParams {
  const void* in;
  void* out;
  long long in_batch, in_channel, in_axis[2];
  long long results;
  int channels, in_size[2], out_size[2];
  int channels_last;  // of `out`
  int piece;          // neighbours that a thread makes: 16 bytes of them, or one, as for every gradient and bicubic
  Between between;
  double scale[2];  // steps of the image from one position of the result to the next
};

constexpr int kUpsampleThreads = 256;

}  // namespace blackwell_compat
