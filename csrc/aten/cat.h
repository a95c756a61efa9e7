// Copies between strided tensors of a card.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "aten/nest.h"

namespace blackwell_compat {

// Strides may be negative.
struct Move {
  void* to;
  const void* from;
  Nest<2> nest;
};

// Makes all these copies of elements of so many bytes, as few launches as there can be; false, and nothing is done, where one
// has too many dimensions or elements.
bool move_all(std::vector<Move> moves, int64_t element, c10::Device device);

// The same for all of a tensor, of another of its sizes and dtype. The memory on the card is what changes: no copy on the host
// takes its place, as it may for Tensor::copy_.
bool copy_on_card(const at::Tensor& to, const at::Tensor& from);

// The same values, contiguous.
at::Tensor packed(const at::Tensor& tensor);

}  // namespace blackwell_compat
