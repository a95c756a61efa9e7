// Copies between strided tensors, several in a launch. What the host and the card share.
#pragma once

namespace blackwell_compat {

constexpr int kCatThreads = 256, kCatUnitsOfThread = 4, kCatDims = 5, kMostCatPieces = 32;

// Strides count units; dimensions that are not there have one element. A piece's blocks begin at `first_block`.
struct CatPiece {
  const void* from;
  void* to;
  long long from_strides[kCatDims], to_strides[kCatDims];
  unsigned sizes[kCatDims], first_block;
};

struct CatParams {
  CatPiece piece[kMostCatPieces];
  int pieces, dims;  // dims: of all pieces at most, the last ones
};

}  // namespace blackwell_compat
