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

}  // namespace blackwell_compat
