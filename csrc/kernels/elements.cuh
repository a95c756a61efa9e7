// What only moves does not ask for the dtype: elements by their bytes.
#pragma once
#include "kernels/platform.cuh"

namespace blackwell_compat {

template <int bytes>
struct ElementOf;
template <>
struct ElementOf<1> {
  using Type = unsigned char;
};
template <>
struct ElementOf<2> {
  using Type = unsigned short;
};
template <>
struct ElementOf<4> {
  using Type = unsigned;
};
template <>
struct ElementOf<8> {
  using Type = uint2;
};
template <>
struct ElementOf<16> {
  using Type = uint4;
};
template <int bytes>
using Element = typename ElementOf<bytes>::Type;

// The element that 16 bytes begin with
template <int bytes>
__device__ __forceinline__ Element<bytes> element_of(const unsigned (&words)[4]) {
  if constexpr (bytes == 16) {
    return make_uint4(words[0], words[1], words[2], words[3]);
  } else if constexpr (bytes == 8) {
    return make_uint2(words[0], words[1]);
  } else {
    return static_cast<Element<bytes>>(words[0]);
  }
}

}  // namespace blackwell_compat
