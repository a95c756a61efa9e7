// Tensors to parameters: which of the kernels suits, how K is split, and the launch.
#include "common/gemm_cuda.h"

#include <ATen/Context.h>
#include <c10/core/DeviceGuard.h>

#include <cmath>
#include <optional>
#include <sstream>

#include "common/ceil_div.h"
#include "common/kernel_dtype.h"
#include "kernels/gemm.cuh"
#include "kernels/gemv.cuh"
#include "runtime/autotune.h"
#include "runtime/device_info.h"
#include "runtime/kernels.h"

namespace blackwell_compat {
namespace {

using at::Tensor;

constexpr int64_t kAlignment = 16;  // bytes that kernels read at a time
constexpr int64_t kMostPartialBytes = int64_t{256} << 20;
constexpr int64_t kLeastDepthOfSplit = 256;  // values of K that make a split worth its sum
constexpr int64_t kMostSplits = 32;
constexpr int kReduceThreads = 256;
constexpr int64_t kMostDepth = int64_t{1} << 30;  // of a block, that kernels count
// What Product::clocks reckons with: results that a multiprocessor's blocks have at one time, clocks of a result's end, of a
// block's first operands, of a launch, and parts of sums that a multiprocessor adds in a clock
constexpr double kTensorResults = 2 * 128 * 128, kSimtResults = 128 * 128;
constexpr double kClocksOfResult = 1.0 / 16, kClocksOfStart = 1500, kClocksOfLaunch = 4000, kSumsPerClock = 4;
constexpr int64_t kMostGemvRows = 16, kMostGemvRowsAcross = 8;

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

// One way to compute a product.
struct Plan {
  bool few;    // gemv, else gemm
  int number;  // in the kernel's name
  int threads, shared_bytes;
  int64_t rows, columns;  // of the result, that a block makes
  int64_t depth;          // the least part of K
  int64_t splits = 1;     // into how many parts K goes, at most
};

// The least power of two from `rows` on.
int gemv_rows(int64_t rows) {
  int up = 1;
  while (up < rows) up *= 2;
  return up;
}

class Product {
 public:
  Product(const Operand& a, const Operand& b, const Tensor& addend, Activation activation, const Tensor& out)
      : a_(a), b_(b), out_(out), dtype_(out.scalar_type()), card_(runtime::device_info(out.device())), layout_(layout_of(a, b)) {
    p_.a = a.data, p_.b = b.data, p_.out = out.mutable_data_ptr();
    p_.M = a.rows, p_.N = b.rows, p_.K = a.depth;
    p_.a_row = a.row_stride, p_.a_k = a.k_stride, p_.b_row = b.row_stride, p_.b_k = b.k_stride, p_.out_row = b.rows;
    p_.a_batch = a.batch_stride, p_.b_batch = b.batch_stride, p_.out_batch = a.rows * b.rows;
    p_.batch = static_cast<unsigned>(out.size(0));
    if (addend.defined()) {
      const Tensor spread = addend.expand(out.sizes());
      p_.addend = spread.const_data_ptr();
      p_.addend_batch = spread.stride(0), p_.addend_row = spread.stride(1), p_.addend_column = spread.stride(2);
    }
    p_.activation = static_cast<int>(activation.kind);
    p_.slope = static_cast<float>(activation.slope);
  }

  void compute() {
    if (!runtime::autotunes()) return run(first());
    const std::vector<Plan> all = plans();
    const int best = runtime::fastest(key(), static_cast<int>(all.size()), out_.device(), [&](int i) { run(all[i]); });
    run(all[best]);
  }

 private:
  // The one to take without a trial.
  Plan first() const {
    const auto few = few_rows();
    if (!few) return cheapest();
    Plan plan = *few;
    plan.splits = splits_to_fill(plan);
    return plan;
  }

  Plan cheapest() const {
    std::optional<Plan> best;
    for (const int size : tile_sizes()) {
      Plan plan = tiles(size);
      const int64_t to_fill = splits_to_fill(plan);
      for (int64_t splits = 1; splits <= to_fill; splits = splits == to_fill ? splits + 1 : std::min(2 * splits, to_fill)) {
        plan.splits = splits;
        if (!best || clocks(plan) < clocks(*best)) best = plan;
      }
    }
    return *best;
  }

  // All there are, with the first at the front.
  std::vector<Plan> plans() const {
    std::vector<Plan> all{first()}, kernels;
    if (few_rows()) {
      kernels = {first()};
    } else {
      for (const int size : tile_sizes()) kernels.push_back(tiles(size));
    }
    for (const Plan& kernel : kernels) {
      for (int64_t splits = 1; splits <= most_splits(); splits *= 2) {
        if (kernel.number == all[0].number && splits == all[0].splits) continue;
        all.push_back(kernel);
        all.back().splits = splits;
      }
    }
    return all;
  }

  std::optional<Plan> few_rows() const {
    const int element = static_cast<int>(a_.element), accumulator = dtype_ == at::kDouble ? 8 : 4;
    const bool across = layout_ == GemmLayout::kNN;
    if (a_.rows > (across ? kMostGemvRowsAcross : kMostGemvRows) || (!across && layout_ != GemmLayout::kNT)) return std::nullopt;
    const int rows = gemv_rows(a_.rows);
    if (across) {
      return Plan{true, rows, kGemvThreads, gemv_shared_bytes_across(element, accumulator), rows, gemv_columns_across(element),
                  1};
    }
    return Plan{true, rows, kGemvThreads, gemv_shared_bytes(rows, accumulator), rows, gemv_columns(rows), kAlignment / element};
  }

  // Of 64 x 64, 128 x 128, or 256: 128 x 256.
  Plan tiles(int size) const {
    const int element = static_cast<int>(a_.element), rows = std::min(size, 128);
    return {false,
            size,
            gemm_threads(rows, size, uses_tensor_cores(dtype_, is_coarse(), card_.capability)),
            gemm_shared_bytes(rows, size, element, layout_, card_.tiles_for),
            rows,
            size,
            kGemmDepthBytes / element};
  }

  bool is_coarse() const { return layout_ != GemmLayout::kAny && takes_tf32(dtype_, card_.capability); }

  // That the layout has kernels of, the largest first.
  std::vector<int> tile_sizes() const {
    if (dtype_ == at::kDouble || layout_ == GemmLayout::kAny) return {64};
    const bool wide = 10 * card_.capability >= kGemmWideFrom && uses_tensor_cores(dtype_, is_coarse(), card_.capability);
    return wide ? std::vector<int>{256, 128, 64} : std::vector<int>{128, 64};
  }

  // About how many clocks a plan takes: blocks in waves over the card, each of them its multiply-adds, which small tiles slow
  // down as they use what they read less often, and its end; then the sum over splits.
  double clocks(const Plan& plan) const {
    const bool tensor_cores = uses_tensor_cores(dtype_, is_coarse(), card_.capability);
    const int64_t blocks = ceil_div(p_.M, plan.rows) * ceil_div(p_.N, plan.columns) * p_.batch * plan.splits;
    const int64_t waves = ceil_div(blocks, card_.multiprocessors);
    const double at_once = (tensor_cores ? kTensorResults : kSimtResults) / static_cast<double>(plan.rows * plan.columns);
    const double slower = plan.columns == 256 ? 1.0 : plan.columns == 128 ? (tensor_cores ? 1.1 : 1.0) : tensor_cores ? 1.6 : 1.2;
    const double depth = static_cast<double>(ceil_div(p_.K, plan.splits));
    const double of_block = plan.rows * plan.columns * (depth * slower / multiplies_per_clock(tensor_cores) + kClocksOfResult);
    double all = waves * of_block + std::ceil(waves / at_once) * kClocksOfStart;
    if (plan.splits > 1) all += kClocksOfLaunch + plan.splits * out_.numel() / (card_.multiprocessors * kSumsPerClock);
    return all;
  }

  // Of a multiprocessor, in round numbers
  double multiplies_per_clock(bool tensor_cores) const {
    if (!tensor_cores) return dtype_ == at::kDouble ? 32 : 128;
    const bool of_data_center = card_.capability == 80 || card_.capability == 90 || card_.capability / 10 == 10;
    return (of_data_center ? 1024.0 : 512.0) / (is_coarse() ? 2 : 1);
  }

  std::string kernel(const Plan& plan) const {
    const char* const family = plan.few ? "compat_gemv_" : is_coarse() ? "compat_gemm_t" : "compat_gemm_";
    return std::string(family) + kernel_dtype(dtype_) + "_" + name_of(layout_) + "_" + std::to_string(plan.number);
  }

  // What the fastest plan depends on.
  std::string key() const {
    std::ostringstream text;
    text << "gemm " << kernel(tiles(64)) << ' ' << p_.M << ' ' << p_.N << ' ' << p_.K << ' ' << p_.batch;
    return text.str();
  }

  at::ScalarType sum_type() const { return dtype_ == at::kDouble ? at::kDouble : at::kFloat; }

  int64_t most_splits() const {
    const int64_t worth = std::max<int64_t>(1, p_.K / kLeastDepthOfSplit);
    const int64_t bytes = out_.numel() * static_cast<int64_t>(c10::elementSize(sum_type()));
    return std::min({worth, std::max<int64_t>(1, kMostPartialBytes / bytes), kMostSplits});
  }

  int64_t splits_to_fill(const Plan& plan) const {
    const int64_t blocks = ceil_div(p_.M, plan.rows) * ceil_div(p_.N, plan.columns) * p_.batch;
    return blocks >= card_.multiprocessors ? 1 : std::min(ceil_div(2 * card_.multiprocessors, blocks), most_splits());
  }

  void run(const Plan& plan) {
    const int64_t row_tiles = ceil_div(p_.M, plan.rows), column_tiles = ceil_div(p_.N, plan.columns);
    const int64_t least_splits = std::max(plan.splits, ceil_div(p_.K, kMostDepth));
    p_.k_per_split = std::max<int64_t>(1, ceil_div(ceil_div(p_.K, least_splits), plan.depth)) * plan.depth;
    const int64_t splits = std::max<int64_t>(1, ceil_div(p_.K, p_.k_per_split));
    p_.row_tiles = static_cast<unsigned>(row_tiles), p_.column_tiles = static_cast<unsigned>(column_tiles);
    p_.splits = static_cast<unsigned>(splits);
    const Tensor partial = splits > 1 ? at::empty({splits * out_.numel()}, out_.options().dtype(sum_type())) : Tensor();
    p_.partial = splits > 1 ? partial.mutable_data_ptr() : nullptr;
    const int64_t blocks = row_tiles * column_tiles * splits * p_.batch;
    runtime::launch(kernel(plan), out_.device(), {blocks, plan.threads, plan.shared_bytes}, &p_);
    if (splits > 1) {
      const std::string reduce = std::string("compat_gemm_reduce_") + kernel_dtype(dtype_);
      runtime::launch(reduce, out_.device(), {ceil_div(out_.numel(), kReduceThreads), kReduceThreads, 0}, &p_);
    }
  }

  const Operand &a_, &b_;
  const Tensor& out_;
  const at::ScalarType dtype_;
  const runtime::DeviceInfo& card_;
  const GemmLayout layout_;
  GemmParams p_{};
};

void multiply(const Operand& a, const Operand& b, const Tensor& addend, Activation activation, const Tensor& out) {
  if (out.numel() > 0) Product(a, b, addend, activation, out).compute();
}

}  // namespace

bool uses_tensor_cores(at::ScalarType dtype, bool coarse, int capability) {
  if (dtype == at::kHalf) return capability >= 70;
  return capability >= 80 && (dtype == at::kBFloat16 || (dtype == at::kFloat && coarse));
}

bool gemm_takes(at::ScalarType dtype) { return kernel_dtype(dtype) != nullptr; }

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
  const std::string of = kernel_dtype(dtype);
  const std::string tiles = takes_tf32(dtype, capability) ? "compat_gemm_tf32_nt_" : "compat_gemm_" + of + "_nt_";
  std::vector<std::string> names{tiles + "64", "compat_gemm_reduce_" + of};
  if (dtype != at::kDouble) names.push_back(tiles + "128");
  if (10 * capability >= kGemmWideFrom && uses_tensor_cores(dtype, takes_tf32(dtype, capability), capability)) {
    names.push_back(tiles + "256");
  }
  for (int rows = 1; rows <= kMostGemvRows; rows *= 2) names.push_back("compat_gemv_" + of + "_nt_" + std::to_string(rows));
  return names;
}

}  // namespace blackwell_compat
