// Tensors to parameters: which of the kernels suits, how K is split, and the launch.
#include "common/gemm_cuda.h"

#include <ATen/Context.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/gemm.cuh"
#include "kernels/gemv.cuh"
#include "runtime/device_info.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;

constexpr int64_t kAlignment = 16;  // bytes that kernels read at a time
constexpr int64_t kMostPartialBytes = int64_t{256} << 20;
constexpr int64_t kLeastDepthOfSplit = 256;  // values of K that make a split worth its sum
constexpr int kMostSplits = 32;
constexpr int kReduceThreads = 256;
constexpr int64_t kMostGemvRows = 16, kMostGemvRowsAcross = 8;

const char* name_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "f32";
    case at::kHalf:
      return "f16";
    case at::kBFloat16:
      return "bf16";
    case at::kDouble:
      return "f64";
    default:
      return nullptr;
  }
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// An operand (batch, rows, K). Without a tensor all its values are 1.
struct Operand {
  const void* data;
  int64_t element, batch, rows, depth, batch_stride, row_stride, k_stride;

  explicit Operand(const Tensor& t)
      : data(t.const_data_ptr()),
        element(t.element_size()),
        batch(t.dim() == 3 ? t.size(0) : 1),
        rows(t.size(-2)),
        depth(t.size(-1)),
        batch_stride(batch > 1 ? t.stride(0) : 0),
        row_stride(t.stride(-2)),
        k_stride(t.stride(-1)) {}
  Operand(int64_t rows, int64_t depth, int64_t element)
      : data(nullptr), element(element), batch(1), rows(rows), depth(depth), batch_stride(0), row_stride(0), k_stride(0) {}

  bool aligned(int64_t elements) const { return elements * element % kAlignment == 0; }
  bool base_aligned() const { return reinterpret_cast<uintptr_t>(data) % kAlignment == 0 && aligned(batch_stride); }
  bool along_k() const { return k_stride == 1 && aligned(depth) && (rows == 1 || aligned(row_stride)) && base_aligned(); }
  bool along_rows() const { return row_stride == 1 && aligned(rows) && (depth == 1 || aligned(k_stride)) && base_aligned(); }
};

GemmLayout layout_of(const Operand& a, const Operand& b) {
  if (a.along_k() && b.along_k()) return GemmLayout::kNT;
  if ((a.along_k() || a.rows <= kMostGemvRowsAcross) && b.along_rows()) return GemmLayout::kNN;
  if (a.along_rows() && b.along_rows()) return GemmLayout::kTN;
  return GemmLayout::kAny;
}

const char* name_of(GemmLayout layout) {
  switch (layout) {
    case GemmLayout::kNT:
      return "nt";
    case GemmLayout::kNN:
      return "nn";
    case GemmLayout::kTN:
      return "tn";
    default:
      return "any";
  }
}

bool takes_tf32(at::ScalarType dtype, int capability) {
  return dtype == at::kFloat && capability >= 80 && at::globalContext().allowTF32CuBLAS();
}

struct Choice {
  std::string name;
  runtime::Grid grid;
  int64_t rows, columns;  // of the result, that a block makes
  int64_t depth;          // the least part of K
};

// The least power of two from `rows` on.
int gemv_rows(int64_t rows) {
  int up = 1;
  while (up < rows) up *= 2;
  return up;
}

Choice choose(const Operand& a, const Operand& b, GemmLayout layout, at::ScalarType dtype, const runtime::DeviceInfo& card) {
  const int element = static_cast<int>(a.element), accumulator = dtype == at::kDouble ? 8 : 4;
  const std::string of = std::string(name_of(dtype)) + "_" + name_of(layout) + "_";
  if (layout == GemmLayout::kNT && a.rows <= kMostGemvRows) {
    const int rows = gemv_rows(a.rows);
    return {"compat_gemv_" + of + std::to_string(rows),
            {0, kGemvThreads, gemv_shared_bytes(rows, accumulator)},
            rows,
            gemv_columns(rows),
            kAlignment / element};
  }
  if (layout == GemmLayout::kNN && a.rows <= kMostGemvRowsAcross) {
    const int rows = gemv_rows(a.rows);
    return {"compat_gemv_" + of + std::to_string(rows),
            {0, kGemvThreads, gemv_shared_bytes_across(element, accumulator)},
            rows,
            gemv_columns_across(element),
            1};
  }
  const int64_t large_tiles = ceil_div(a.rows, 128) * ceil_div(b.rows, 128) * std::max(a.batch, b.batch);
  const bool large = dtype != at::kDouble && layout != GemmLayout::kAny && large_tiles >= card.multiprocessors;
  const int size = large ? 128 : 64;
  const bool coarse = layout != GemmLayout::kAny && takes_tf32(dtype, card.capability);
  return {(coarse ? "compat_gemm_t" : "compat_gemm_") + of + std::to_string(size),
          {0, gemm_threads(size), gemm_shared_bytes(size, element, layout, 10 * card.capability)},
          size,
          size,
          kGemmDepthBytes / element};
}

// Into how many parts K goes, so that the card is busy.
int64_t splits_of(int64_t blocks, int64_t depth, int64_t result_bytes, int multiprocessors) {
  const int64_t wanted = blocks >= multiprocessors ? 1 : ceil_div(2 * multiprocessors, blocks);
  const int64_t worth = std::max<int64_t>(1, depth / kLeastDepthOfSplit);
  const int64_t room = std::max<int64_t>(1, kMostPartialBytes / result_bytes);
  return std::min({wanted, worth, room, int64_t{kMostSplits}});
}

void multiply(const Operand& a, const Operand& b, const Tensor& addend, Activation activation, const Tensor& out) {
  if (out.numel() == 0) return;
  const runtime::DeviceInfo& card = runtime::device_info(out.device());
  Choice choice = choose(a, b, layout_of(a, b), out.scalar_type(), card);
  GemmParams p{};
  p.a = a.data, p.b = b.data, p.out = out.mutable_data_ptr();
  p.M = a.rows, p.N = b.rows, p.K = a.depth;
  p.a_row = a.row_stride, p.a_k = a.k_stride, p.b_row = b.row_stride, p.b_k = b.k_stride, p.out_row = b.rows;
  p.a_batch = a.batch_stride, p.b_batch = b.batch_stride, p.out_batch = a.rows * b.rows;
  if (addend.defined()) {
    const Tensor spread = addend.expand(out.sizes());
    p.addend = spread.const_data_ptr();
    p.addend_batch = spread.stride(0), p.addend_row = spread.stride(1), p.addend_column = spread.stride(2);
  }
  p.activation = static_cast<int>(activation.kind);
  p.slope = static_cast<float>(activation.slope);

  const int64_t batch = out.size(0), row_tiles = ceil_div(p.M, choice.rows), column_tiles = ceil_div(p.N, choice.columns);
  const int64_t blocks = row_tiles * column_tiles * batch;
  const auto sum_type = out.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const int64_t sum_bytes = out.numel() * static_cast<int64_t>(c10::elementSize(sum_type));
  const int64_t wanted = splits_of(blocks, p.K, sum_bytes, card.multiprocessors);
  p.k_per_split = std::max<int64_t>(1, ceil_div(ceil_div(p.K, wanted), choice.depth)) * choice.depth;
  const int64_t splits = std::max<int64_t>(1, ceil_div(p.K, p.k_per_split));
  p.row_tiles = static_cast<unsigned>(row_tiles), p.column_tiles = static_cast<unsigned>(column_tiles);
  p.batch = static_cast<unsigned>(batch), p.splits = static_cast<unsigned>(splits);
  Tensor partial;
  if (splits > 1) {
    partial = at::empty({splits * out.numel()}, out.options().dtype(sum_type));
    p.partial = partial.mutable_data_ptr();
  }
  choice.grid.blocks = blocks * splits;
  runtime::launch(choice.name, out.device(), choice.grid, &p);
  if (splits > 1) {
    runtime::launch(std::string("compat_gemm_reduce_") + name_of(out.scalar_type()), out.device(),
                    {ceil_div(out.numel(), kReduceThreads), kReduceThreads, 0}, &p);
  }
}

}  // namespace

bool gemm_takes(at::ScalarType dtype) { return name_of(dtype) != nullptr; }

void gemm_cuda(const Tensor& a, const Tensor& b, const Tensor& addend, Activation activation, const Tensor& out) {
  const c10::DeviceGuard guard(a.device());
  multiply(Operand(a), Operand(b), addend, activation, out.dim() == 3 ? out : out.unsqueeze(0));
}

Tensor gemm_cuda(const Tensor& a, const Tensor& b, const Tensor& addend) {
  const Tensor out = at::empty({a.size(0), b.size(0)}, a.options());
  gemm_cuda(a, b, addend, {}, out);
  return out;
}

Tensor sum_rows_cuda(const Tensor& a, const Tensor& addend) {
  const c10::DeviceGuard guard(a.device());
  const Operand ones(1, a.size(0), a.element_size()), rows(a.t());
  const Tensor out = at::empty({1, 1, a.size(1)}, a.options());
  if (rows.along_rows()) {
    multiply(ones, rows, addend, {}, out);
  } else {
    const Tensor one = at::ones({1}, a.options().device(at::kCPU)).to(a.device());
    multiply(Operand(one.expand({1, a.size(0)})), rows, addend, {}, out);
  }
  return out.view({a.size(1)});
}

std::vector<std::string> gemm_kernels(at::ScalarType dtype, int capability) {
  const std::string of = name_of(dtype);
  const std::string tiles = takes_tf32(dtype, capability) ? "compat_gemm_tf32_nt_" : "compat_gemm_" + of + "_nt_";
  std::vector<std::string> names{tiles + "64", "compat_gemm_reduce_" + of};
  if (dtype != at::kDouble) names.push_back(tiles + "128");
  for (int rows = 1; rows <= kMostGemvRows; rows *= 2) names.push_back("compat_gemv_" + of + "_nt_" + std::to_string(rows));
  return names;
}

}  // namespace blackwell_compat
