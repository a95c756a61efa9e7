// The lists. Together with PyTorch's own, which differ between CPU and CUDA, they make one list for both.
#include "precision/autocast.h"

namespace blackwell_compat::precision {
namespace {

// Matrix products and what is made of them
constexpr const char* low[] = {"_addmm_activation",
                               "_convolution",
                               "_native_multi_head_attention",
                               "addmv",
                               "addr",
                               "chain_matmul",
                               "conv1d.padding",
                               "conv2d.padding",
                               "conv3d.padding",
                               "convolution",
                               "einsum",
                               "gru_cell",
                               "linalg_multi_dot",
                               "lstm_cell",
                               "mv",
                               "rnn_relu_cell",
                               "rnn_tanh_cell"};

// Spectra and complex numbers: there is no complex bfloat16, and a transform adds up n_fft values of any size
constexpr const char* spectra[] = {"_fft_c2c",   "_fft_c2r",    "_fft_r2c",       "complex",    "fft_fft",   "fft_fft2",
                                   "fft_fftn",   "fft_hfft",    "fft_hfft2",      "fft_hfftn",  "fft_ifft",  "fft_ifft2",
                                   "fft_ifftn",  "fft_ihfft",   "fft_ihfft2",     "fft_ihfftn", "fft_irfft", "fft_irfft2",
                                   "fft_irfftn", "fft_rfft",    "fft_rfft2",      "fft_rfftn",  "istft",     "polar",
                                   "stft",       "stft.center", "view_as_complex"};

constexpr const char* norms[] = {"_weight_norm",
                                 "batch_norm",
                                 "frobenius_norm.dim",
                                 "group_norm",
                                 "instance_norm",
                                 "layer_norm",
                                 "linalg_matrix_norm",
                                 "linalg_matrix_norm.str_ord",
                                 "linalg_vector_norm",
                                 "native_layer_norm",
                                 "norm.Scalar",
                                 "norm.ScalarOpt_dim",
                                 "nuclear_norm",
                                 "nuclear_norm.dim",
                                 "renorm",
                                 "rms_norm"};

// Sums of many values, and functions that are steep somewhere
constexpr const char* sensitive[] = {"acos",
                                     "asin",
                                     "cosh",
                                     "cosine_similarity",
                                     "cumprod",
                                     "cumsum",
                                     "dist",
                                     "erfinv",
                                     "exp",
                                     "expm1",
                                     "log",
                                     "log10",
                                     "log1p",
                                     "log2",
                                     "log_softmax.int",
                                     "logsumexp",
                                     "nanquantile",
                                     "nanquantile.scalar",
                                     "pdist",
                                     "pow.Scalar",
                                     "pow.Tensor_Scalar",
                                     "pow.Tensor_Tensor",
                                     "quantile",
                                     "quantile.scalar",
                                     "reciprocal",
                                     "rsqrt",
                                     "sinh",
                                     "softmax.int",
                                     "softplus",
                                     "sum",
                                     "sum.dim_IntList",
                                     "tan",
                                     "trace"};

constexpr const char* losses[] = {"cross_entropy_loss", "ctc_loss.IntList", "ctc_loss.Tensor", "multilabel_margin_loss_forward"};

// No kernels of these in 16 bits
constexpr const char* decompositions[] = {"_lu_with_info",
                                          "cholesky",
                                          "cholesky_inverse",
                                          "cholesky_solve",
                                          "fake_quantize_per_tensor_affine",
                                          "geqrf",
                                          "inverse",
                                          "linalg_cholesky",
                                          "linalg_cholesky_ex",
                                          "linalg_cond",
                                          "linalg_cond.p_str",
                                          "linalg_eig",
                                          "linalg_eigh",
                                          "linalg_eigvals",
                                          "linalg_eigvalsh",
                                          "linalg_householder_product",
                                          "linalg_inv",
                                          "linalg_inv_ex",
                                          "linalg_lstsq",
                                          "linalg_matrix_rank",
                                          "linalg_matrix_rank.atol_rtol_float",
                                          "linalg_matrix_rank.atol_rtol_tensor",
                                          "linalg_matrix_rank.tol_tensor",
                                          "linalg_matrix_sqrth",
                                          "linalg_qr",
                                          "linalg_solve",
                                          "linalg_svd",
                                          "linalg_svdvals",
                                          "linalg_tensorinv",
                                          "linalg_tensorsolve",
                                          "lu_solve",
                                          "orgqr",
                                          "ormqr",
                                          "pinverse",
                                          "qr",
                                          "svd",
                                          "triangular_solve"};

// Several arguments of one dtype
constexpr const char* alike[] = {"addcdiv",    "addcmul",   "atan2",       "bilinear",  "cross", "dot",
                                 "index_copy", "index_put", "scatter_add", "tensordot", "vdot"};

// oneDNN's, to which PyTorch's list for the CPU sends an LSTM, raises on other CPUs
constexpr const char* recurrent[] = {"lstm.input", "lstm.data"};

bool has_half_lstm() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

template <size_t count>
void add(std::vector<Rule>& rules, const char* const (&ops)[count], Cast cast) {
  for (const char* op : ops) rules.push_back({op, cast});
}

}  // namespace

std::vector<Rule> rules(c10::DeviceType device) {
  std::vector<Rule> made;
  add(made, low, Cast::kLow);
  add(made, spectra, Cast::kFull);
  add(made, norms, Cast::kFull);
  add(made, sensitive, Cast::kFull);
  add(made, losses, Cast::kFull);
  add(made, decompositions, Cast::kFull);
  add(made, alike, Cast::kPromote);
  if (device == c10::kCPU && !has_half_lstm()) add(made, recurrent, Cast::kFull);
  return made;
}

}  // namespace blackwell_compat::precision
