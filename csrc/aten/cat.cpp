// cat, flip and roll: pieces of tensors that are copied to places of another.
#include "aten/cat.h"

#include <ATen/ATen.h>
#include <ATen/native/TypeProperties.h>
#include <c10/core/DeviceGuard.h>

#include "aten/variants.h"
#include "common/ceil_div.h"
#include "common/own_kernels.h"
#include "kernels/cat.cuh"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;
using torch::jit::Stack;

CatPiece piece_of(const Move& move) {
  CatPiece piece{};
  piece.from = move.from, piece.to = move.to;
  lay_out(move.nest, piece.sizes, piece.to_strides, piece.from_strides);
  return piece;
}

Nest<2> nest_of(const Tensor& to, const Tensor& from, at::IntArrayRef sizes) {
  Nest<2> nest;
  const int64_t element = to.element_size();
  for (size_t d = 0; d < sizes.size(); ++d) {
    const auto dim = static_cast<int64_t>(d);
    nest.push_back({sizes[d], {to.stride(dim) * element, from.stride(dim) * element}});
  }
  return nest;
}

// Such tensors of one dimension and no elements go with every other.
bool is_skipped(const Tensor& tensor) { return tensor.dim() == 1 && tensor.size(0) == 0; }

bool go_together(const std::vector<Tensor>& tensors, const Tensor& model, int64_t dim) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const Tensor& tensor) {
    if (!tensor.is_cuda() || tensor.layout() != c10::kStrided) return false;
    if (is_skipped(tensor)) return true;
    if (tensor.dim() != model.dim()) return false;
    for (int64_t d = 0; d < model.dim(); ++d) {
      if (d != dim && tensor.size(d) != model.size(d)) return false;
    }
    return true;
  });
}

at::MemoryFormat common_format(const std::vector<Tensor>& tensors) {
  const at::MemoryFormat first = tensors.front().suggest_memory_format();
  const bool same =
      std::all_of(tensors.begin(), tensors.end(), [&](const Tensor& tensor) { return tensor.suggest_memory_format() == first; });
  return same ? first : at::MemoryFormat::Contiguous;
}

bool cat(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  std::vector<Tensor> tensors = arguments[0].toTensorVector();
  if (tensors.empty()) return false;
  auto model = std::find_if(tensors.begin(), tensors.end(), [](const Tensor& tensor) { return !is_skipped(tensor); });
  if (model == tensors.end()) model = tensors.begin();
  const int64_t dims = model->dim(), dim = wrapped(arguments[1].toInt(), dims);
  if (dim < 0 || !go_together(tensors, *model, dim)) return false;
  const auto dtype = at::native::result_type(tensors);
  c10::DimVector sizes(model->sizes());
  sizes[dim] = 0;
  for (const Tensor& tensor : tensors) sizes[dim] += is_skipped(tensor) ? 0 : tensor.size(dim);
  const Tensor out = destination(op, *stack, sizes, model->options().dtype(dtype).memory_format(common_format(tensors)));
  if (!out.defined()) return false;
  const c10::DeviceGuard guard(out.device());
  std::vector<Move> moves;
  int64_t begin = 0;
  for (Tensor& tensor : tensors) {
    if (is_skipped(tensor)) continue;
    tensor = tensor.to(out.scalar_type());
    char* const to = static_cast<char*>(out.mutable_data_ptr()) + begin * out.stride(dim) * out.element_size();
    moves.push_back({to, tensor.const_data_ptr(), nest_of(out, tensor, tensor.sizes())});
    begin += tensor.size(dim);
  }
  if (!move_all(std::move(moves), out.element_size(), out.device())) return false;
  give(op, stack, {out});
  return true;
}

bool flip(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 2);
  const Tensor self = arguments[0].toTensor();
  std::vector<bool> flipped(self.dim());
  for (const int64_t given : arguments[1].toIntVector()) {
    const int64_t dim = wrapped(given, self.dim());
    if (dim < 0 || flipped[dim]) return false;
    flipped[dim] = true;
  }
  if (self.layout() != c10::kStrided) return false;
  const Tensor out = at::empty_like(self);
  Nest<2> nest = nest_of(out, self, self.sizes());
  const auto* from = static_cast<const char*>(self.const_data_ptr());
  for (int64_t d = 0; d < self.dim(); ++d) {
    if (!flipped[d]) continue;
    from += std::max<int64_t>(0, self.size(d) - 1) * nest[d].strides[1];
    nest[d].strides[1] *= -1;
  }
  if (!move_all({{out.mutable_data_ptr(), from, nest}}, out.element_size(), out.device())) return false;
  give(op, stack, {out});
  return true;
}

// Each dimension that rolls cuts every piece in two; with none given all elements roll in a row.
bool roll(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, 3);
  const auto shifts = arguments[1].toIntVector(), dims = arguments[2].toIntVector();
  const Tensor given = arguments[0].toTensor();
  const bool in_a_row = dims.empty() && shifts.size() == 1;
  if ((!in_a_row && (shifts.size() != dims.size() || dims.empty())) || given.layout() != c10::kStrided) return false;
  const Tensor self = in_a_row ? packed(given).view({-1}) : given, out = at::empty(self.sizes(), self.options());
  std::vector<int64_t> shift_of(self.dim());
  for (size_t i = 0; i < shifts.size(); ++i) {
    const int64_t dim = in_a_row ? 0 : wrapped(dims[i], self.dim());
    if (dim < 0) return false;
    shift_of[dim] += shifts[i];
  }
  std::vector<Move> moves{{out.mutable_data_ptr(), self.const_data_ptr(), nest_of(out, self, self.sizes())}};
  for (int64_t dim = 0; dim < self.dim(); ++dim) {
    const int64_t size = self.size(dim), shift = size == 0 ? 0 : (shift_of[dim] % size + size) % size;
    if (shift == 0) continue;
    std::vector<Move> cut;
    for (const Move& whole : moves) {
      const auto [to_stride, from_stride] = whole.nest[dim].strides;
      Move head = whole, tail = whole;  // of what is read
      head.nest[dim].size = size - shift, tail.nest[dim].size = shift;
      head.to = static_cast<char*>(whole.to) + shift * to_stride;
      tail.from = static_cast<const char*>(whole.from) + (size - shift) * from_stride;
      cut.push_back(head);
      cut.push_back(tail);
    }
    moves = std::move(cut);
  }
  if (!move_all(std::move(moves), out.element_size(), out.device())) return false;
  give(op, stack, {out.view(given.sizes())});
  return true;
}

const OwnKernel kernels[] = {{"aten::cat", cat}, {"aten::cat.out", cat}, {"aten::flip", flip}, {"aten::roll", roll}};

}  // namespace

bool move_all(std::vector<Move> moves, int64_t element, c10::Device device) {
  moves.erase(std::remove_if(moves.begin(), moves.end(), [](const Move& move) { return steps_of(move.nest) == 0; }), moves.end());
  int64_t unit = 16;
  for (Move& move : moves) {
    simplify(move.nest);
    unit = std::min(unit, widest_unit<2>(move.nest, element, {address_of(move.to), address_of(move.from)}));
    if (move.nest.size() > kCatDims || steps_of(move.nest) > std::numeric_limits<int>::max()) return false;
  }
  const c10::DeviceGuard guard(device);
  const std::string name = "compat_cat_b" + std::to_string(unit);
  for (size_t begin = 0; begin < moves.size(); begin += kMostCatPieces) {
    CatParams p{};
    int64_t blocks = 0;
    for (size_t i = begin; i < std::min(moves.size(), begin + kMostCatPieces); ++i) {
      in_units<2>(moves[i].nest, element, unit);
      CatPiece& piece = p.piece[p.pieces++] = piece_of(moves[i]);
      piece.first_block = static_cast<unsigned>(blocks);
      blocks += ceil_div(steps_of(moves[i].nest), kCatThreads * kCatUnitsOfThread);
      p.dims = std::max(p.dims, static_cast<int>(moves[i].nest.size()));
    }
    runtime::launch(name, device, {blocks, kCatThreads, 0}, &p);
  }
  return true;
}

bool copy_on_card(const Tensor& to, const Tensor& from) {
  return move_all({{to.mutable_data_ptr(), from.const_data_ptr(), nest_of(to, from, to.sizes())}}, to.element_size(),
                  to.device());
}

Tensor packed(const Tensor& tensor) {
  if (tensor.is_contiguous()) return tensor;
  const Tensor copy = at::empty(tensor.sizes(), tensor.options());
  return copy_on_card(copy, tensor) ? copy : tensor.contiguous();
}

}  // namespace blackwell_compat
