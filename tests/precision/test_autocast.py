"""`with autocast(policy)` on the CPU: what computes in which dtype, and that leaving it leaves nothing behind."""

import re
import threading

import blackwell_compat as bc
import pytest
import reference
import torch
from blackwell_compat import _C

F = torch.nn.functional
BF16 = bc.Policy("bf16", anyway=True)  # also on a CPU that is slower in it
HANN = torch.hann_window(16).bfloat16().float()  # the same in both
SPECTRA = {
    "stft": lambda x: torch.stft(x, 16, 4, window=HANN.to(x.dtype), return_complex=True),
    "rfft": torch.fft.rfft,
    "irfft": torch.fft.irfft,
    "fft2": lambda x: torch.fft.fft2(x.view(20, 20)),
    "hfftn": lambda x: torch.fft.hfftn(x.view(20, 20)),
    "ihfft2": lambda x: torch.fft.ihfft2(x.view(20, 20)),
    "complex": lambda x: torch.complex(x, x),
    "polar": lambda x: torch.polar(x.abs(), x),
    "view_as_complex": lambda x: torch.view_as_complex(x.view(-1, 2)),
}
FULL = {
    "layer_norm": lambda x: F.layer_norm(x, (400,)),
    "group_norm": lambda x: F.group_norm(x.view(1, 8, 50), 4),
    "batch_norm": lambda x: F.batch_norm(x.view(4, 5, 20), None, None, training=True),
    "instance_norm": lambda x: F.instance_norm(x.view(4, 5, 20)),
    "norm": torch.linalg.vector_norm,
    "softmax": lambda x: torch.softmax(x, 0),
    "log_softmax": lambda x: F.log_softmax(x, 0),
    "cross_entropy": lambda x: F.cross_entropy(x.view(40, 10), torch.arange(40) % 10),
    "mse_loss": lambda x: F.mse_loss(x, x.flip(0)),
    "cumsum": lambda x: torch.cumsum(x, 0),
    "sum": torch.sum,
    "exp": torch.exp,
    "log": lambda x: torch.log(x.abs()),
    "pow": lambda x: torch.pow(x, 3),
    "rsqrt": lambda x: torch.rsqrt(x.abs()),
    "logsumexp": lambda x: torch.logsumexp(x, 0),
    "softplus": F.softplus,
    "cosine_similarity": lambda x: F.cosine_similarity(x.view(20, 20), x.view(20, 20).T),
    "inverse": lambda x: torch.linalg.inv(x.view(20, 20)),
}
LOW = {
    "matmul": lambda x: x.view(20, 20) @ x.view(20, 20),
    "mv": lambda x: torch.mv(x.view(20, 20), x[:20].float()),
    "einsum": lambda x: torch.einsum("ij,kj->ik", x.view(20, 20), x.view(20, 20).float()),
    "linear": lambda x: F.linear(x.view(20, 20), x.view(20, 20).float()),
    "conv1d": lambda x: F.conv1d(x.view(1, 20, 20), x[:60].view(1, 20, 3).float()),
    "conv1d same": lambda x: F.conv1d(x.view(1, 20, 20), x[:60].view(1, 20, 3).float(), padding="same"),
    "compat_linear": lambda x: bc.compat_linear(x.view(20, 20), x.view(20, 20).float()),
    "lstm_cell": lambda x: torch.lstm_cell(
        x.view(40, 10), [x.view(40, 10)] * 2, x.view(40, 10).float(), x.view(40, 10).float()
    )[0],
}
# What PyTorch puts on one of its lists and ours leaves off the other device
ONLY_CUDA = "there is none on the CPU"
KERNELS = "CUDA has kernels in 16 bits that add up in float32 or only move values"
INSIDE = "the CPU computes in float32 inside and rounds once"
LEFT_TO_CUDA = {
    "_cudnn_rnn": ONLY_CUDA,
    "_scaled_dot_product_flash_attention": ONLY_CUDA,
    "_thnn_fused_gru_cell": ONLY_CUDA,
    "_thnn_fused_lstm_cell": ONLY_CUDA,
    "cudnn_convolution": ONLY_CUDA,
    "cudnn_convolution_transpose": ONLY_CUDA,
    **dict.fromkeys(
        (
            "_upsample_bicubic2d_aa",
            "_upsample_bilinear2d_aa",
            "_upsample_nearest_exact1d",
            "_upsample_nearest_exact2d",
            "_upsample_nearest_exact3d",
            "upsample_bicubic2d",
            "upsample_bilinear2d",
            "upsample_linear1d",
            "upsample_nearest1d",
            "upsample_nearest2d",
            "upsample_nearest3d",
            "upsample_trilinear3d",
        ),
        INSIDE,
    ),
}
LEFT_TO_CPU = {
    "_grid_sampler_2d_cpu_fallback": "a function of the CPU alone",
    "grid_sampler_2d": "grid_sampler, which calls it, is on CUDA's list",
    "grid_sampler_3d": "grid_sampler, which calls it, is on CUDA's list",
    "mkldnn_rnn_layer": "a function of the CPU alone",
    "cat": "CUDA's promotes by itself",
    "stack": "is made of cat",
    **dict.fromkeys(
        (
            "adaptive_avg_pool3d",
            "adaptive_max_pool3d",
            "avg_pool3d",
            "fractional_max_pool2d",
            "fractional_max_pool3d",
            "max_pool3d",
            "max_unpool2d",
            "max_unpool3d",
            "reflection_pad1d",
            "reflection_pad2d",
            "replication_pad1d",
            "replication_pad2d",
            "replication_pad3d",
        ),
        KERNELS,
    ),
}


def signal(dtype=torch.bfloat16):
    return reference.values(400, dtype=dtype)


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra_are_those_of_float32_to_the_bit(name):
    x = signal()
    want = SPECTRA[name](x.float())
    with bc.autocast(BF16):
        got = SPECTRA[name](x)
    assert got.dtype == want.dtype
    assert torch.equal(got, want)


def test_istft_takes_a_window_in_bfloat16():
    spectrum = torch.stft(signal(torch.float32), 16, 4, window=HANN, return_complex=True)
    with bc.autocast(BF16):
        got = torch.istft(spectrum, 16, 4, window=HANN.bfloat16())
    assert torch.equal(got, torch.istft(spectrum, 16, 4, window=HANN.bfloat16().float()))


@pytest.mark.parametrize("name", FULL)
def test_float32_where_it_must_be(name):
    x = signal()
    with bc.autocast(BF16):
        got = FULL[name](x)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, FULL[name](x.float()), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", LOW)
def test_matrix_products_are_in_the_dtype(name):
    with bc.autocast(BF16):
        assert LOW[name](signal()).dtype == torch.bfloat16


def test_an_lstm_computes_on_every_cpu():
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(10, 16, bidirectional=True)
    x = signal(torch.float32).view(5, 8, 10)
    with torch.no_grad():
        want, _ = lstm(x)
        with bc.autocast(BF16):
            got, _ = lstm(x)
            packed, _ = lstm(torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5] * 8)))
    torch.testing.assert_close(got.float(), want, rtol=0.02, atol=0.02)
    torch.testing.assert_close(packed.data.float(), want.view(40, 32), rtol=0.02, atol=0.02)


def test_several_arguments_get_the_widest_dtype():
    x, y = signal()[:20], signal(torch.float32)[:20]
    with bc.autocast(BF16):
        assert torch.dot(x, y).dtype == torch.float32
        assert torch.dot(x, x).dtype == torch.bfloat16
        assert torch.addcmul(x, x, y).dtype == torch.float32
        index = (torch.tensor([3, 1]),)
        assert torch.index_put(y, index, x[:2]).dtype == torch.float32


def test_float32_takes_16_bits_too():
    x = signal().view(20, 20)
    with bc.autocast("fp32"):
        assert torch.equal(x @ x.float(), x.float() @ x.float())
        assert F.linear(x, x.float()).dtype == torch.float32


def test_a_named_dtype_is_kept():
    with bc.autocast(BF16):
        assert torch.softmax(signal(), 0, dtype=torch.float64).dtype == torch.float64
        assert torch.cumsum(signal(), 0, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_float64_is_left_alone():
    with bc.autocast(BF16):
        assert torch.exp(signal(torch.float64)).dtype == torch.float64
        assert torch.fft.rfft(signal(torch.float64)).dtype == torch.complex128


def names(key):
    registered = torch._C._dispatch_get_registrations_for_dispatch_key(key)
    assert len(registered) > 100
    return {name.removeprefix("aten::") for name in registered if name.startswith("aten::")}


def by_dimension_name(names):
    return {name for name in names if not re.search(r"\.(.*_)?[dD]imname(List)?$|\.names_", name)}


def test_every_op_on_one_of_pytorchs_lists_is_on_both_or_has_a_reason():
    on_cpu, on_cuda = by_dimension_name(names("AutocastCPU")), by_dimension_name(names("AutocastCUDA"))
    assert (on_cuda - on_cpu) | {"_cudnn_rnn"} == LEFT_TO_CUDA.keys()  # which torch for the CPU lacks
    assert on_cpu - on_cuda - {"lstm.input", "lstm.data"} == LEFT_TO_CPU.keys()  # on CPUs that cannot do it in bfloat16


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_list_has_no_dead_names(device):
    """Each of our rules is of an op of this torch, but for what some release does not have."""
    known = {str(op) for op in torch._C._dispatch_get_all_op_names()}
    unknown = {op for op, _ in _C.precision_rules(device) if op not in known}
    assert unknown <= {"aten::cholesky", "aten::qr", "aten::linalg_matrix_sqrth", "aten::rms_norm"}


def test_outside_of_the_block_nothing_changes():
    x = signal()

    def state():
        devices = ("cpu", "cuda")
        return [torch.is_autocast_enabled(d) for d in devices], [torch.get_autocast_dtype(d) for d in devices]

    before = state()
    with pytest.raises(ZeroDivisionError), bc.autocast(BF16):
        raise ZeroDivisionError
    assert state() == before
    assert not _C.precision_is_active()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.exp(x).dtype == torch.bfloat16  # PyTorch's list for the CPU lacks it
        with bc.autocast(BF16):
            assert torch.exp(x).dtype == torch.float32
            with torch.autocast("cpu", enabled=False):
                assert torch.exp(x).dtype == torch.bfloat16
            with bc.autocast("fp32"):
                assert (x.view(20, 20).float() @ x.view(20, 20).float()).dtype == torch.float32
        assert torch.exp(x).dtype == torch.bfloat16
    assert state() == before


def test_other_dtypes_inside_of_each_other():
    weight = torch.nn.Parameter(reference.values(4, 20))
    x = reference.values(3, 20)
    with torch.autocast("cpu", torch.bfloat16):
        assert F.linear(x, weight).dtype == torch.bfloat16
        with bc.autocast(bc.Policy("fp16", anyway=True)):
            assert F.linear(x, weight).dtype == torch.float16  # not the weight that is kept in bfloat16
        assert F.linear(x, weight).dtype == torch.bfloat16


def test_threads_have_their_own():
    inside, go_on, seen = threading.Event(), threading.Event(), {}

    def other():
        inside.wait()
        seen["other"] = torch.exp(signal()).dtype
        with bc.autocast(BF16):
            seen["both"] = torch.exp(signal()).dtype
        go_on.set()

    thread = threading.Thread(target=other)
    thread.start()
    with bc.autocast(BF16):
        inside.set()
        go_on.wait()
        assert torch.exp(signal()).dtype == torch.float32
    thread.join()
    assert seen == {"other": torch.bfloat16, "both": torch.float32}


def test_a_decorator_can_call_itself():
    @bc.autocast(BF16)
    def factorial(n):
        return signal()[:1].exp() if n == 0 else factorial(n - 1) * n

    assert factorial(4).dtype == torch.float32
    assert not _C.precision_is_active()


class Casts(torch.utils._python_dispatch.TorchDispatchMode):
    def __init__(self, of):
        super().__init__()
        self.of, self.count = of, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._to_copy.default and args[0].data_ptr() == self.of.data_ptr()
        return func(*args, **(kwargs or {}))


def test_a_weight_is_cast_once_in_a_block():
    weight = torch.nn.Parameter(reference.values(4, 20))
    with Casts(weight) as casts, bc.autocast(BF16):
        for _ in range(3):
            F.linear(reference.values(3, 20), weight)
    assert casts.count == 1


def test_training():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 40), torch.nn.LayerNorm(40), torch.nn.GELU(), torch.nn.Linear(40, 1)
    )
    x = reference.values(16, 20)
    want = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
    with bc.autocast(BF16):
        loss = F.mse_loss(model(x), torch.zeros(16, 1))
    assert loss.dtype == torch.float32
    for got, exact in zip(torch.autograd.grad(loss, list(model.parameters())), want, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, exact, rtol=0.05, atol=0.02 * exact.abs().max().item())


def test_gradients_of_spectra_are_those_of_float32():
    x = signal(torch.float32).requires_grad_()
    with bc.autocast(BF16):
        torch.stft(x, 16, 4, window=HANN, return_complex=True).abs().sum().backward()
    got, x.grad = x.grad, None
    torch.stft(x, 16, 4, window=HANN, return_complex=True).abs().sum().backward()
    assert torch.equal(got, x.grad)


@pytest.mark.parametrize("inside", [False, True], ids=["around", "inside"])
def test_compiled(inside):
    def norm(x):
        return F.layer_norm(x, (400,))

    def with_block(x):
        with bc.autocast(BF16):
            return norm(x)

    x = signal()
    torch._dynamo.reset()
    compiled = torch.compile(with_block if inside else norm, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        first = compiled(x)
    assert first.dtype == (torch.float32 if inside else torch.bfloat16)
    with bc.autocast(BF16):  # what was compiled for torch.autocast is not taken for this
        assert compiled(x).dtype == torch.float32


def test_what_the_policy_comes_to_on_this_cpu():
    with bc.autocast("bf16"):
        has = {"avx512_bf16", "amx_bf16"} & set(bc.doctor()["cpu"]["isa"])
        assert LOW["matmul"](signal(torch.float32)).dtype == (torch.bfloat16 if has else torch.float32)


def test_unknown_policies():
    with pytest.raises(ValueError, match="dtype must be one of bf16, fp16, fp32, got 'int8'"):
        bc.autocast("int8")
    with pytest.raises(ValueError, match="store must be bf16, fp16 or None, got 'fp32'"):
        bc.Policy(store="fp32")
    with pytest.raises(TypeError, match="names, compiled regexes and classes"):
        bc.Policy(float32=(3,))
