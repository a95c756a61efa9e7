"""stft_fp32 against torch.stft."""

import functools
import inspect
import re

import composing
import opinfo
import pytest
import reference
import torch
from blackwell_compat import stft_fp32
from hypothesis import given, settings
from hypothesis import strategies as st
from spectral_cases import make_window

OP = torch.ops.blackwell_compat.stft_fp32.default
HALVES = [torch.float16, torch.bfloat16]
TORCH_ALIGNS = "align_to_window" in inspect.signature(torch.stft).parameters  # 2.4 to 2.8 do not

# What the workload models ask for, then sizes that divide nothing: n_fft, hop_length, win_length, center, window
MODELS = [
    (16, 4, 16, True, "hann"),  # Chatterbox
    (20, 5, 20, True, "hann"),  # Kokoro
    (400, 160, 400, True, "hann"),  # Whisper
    (512, 160, 400, True, "hamming"),
    (1920, 480, 1920, False, "hann"),
    (2048, 256, 1024, True, "hann"),
    (2048, 320, 2048, True, "hann"),
]
AWKWARD = [
    (1, 1, 1, True, "random"),
    (2, 3, 1, True, "random"),
    (5, 2, 4, True, "random"),
    (7, 9, 7, True, "random"),
    (31, 8, 17, False, "random"),
    (34, 40, 34, True, "random"),
    (48, 11, 48, True, "random"),
    (257, 64, 200, True, "random"),
]


def make_signal(*size, dtype=torch.float32):
    return torch.randn(size, generator=torch.Generator().manual_seed(sum(size)), dtype=torch.float64).to(dtype)


def stft(x, n_fft, hop_length, win_length=None, *args, align_to_window=False, **kwargs):
    """torch.stft, also of a torch without align_to_window: zeros around the signal, as they are around the window."""
    if align_to_window:
        left = (n_fft - win_length) // 2
        x = torch.nn.functional.pad(x, (left, n_fft - win_length - left))
    return torch.stft(x, n_fft, hop_length, win_length, *args, **kwargs)


def assert_same_strides(got, peer):
    assert got.stride() == peer.stride(), (got.stride(), peer.stride())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [(), (3,)], ids=["1-D", "2-D"])
@pytest.mark.parametrize("sizes", MODELS + AWKWARD, ids=str)
def test_matches_float64_reference(sizes, batch, dtype):
    n_fft, hop, win_length, center, kind = sizes
    args = make_signal(*batch, 4 * n_fft + 77, dtype=dtype), n_fft, hop, win_length
    kwargs = {"window": make_window(kind, win_length, dtype), "center": center, "return_complex": True}
    got, peer = stft_fp32(*args, **kwargs), torch.stft(*args, **kwargs)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.stft, *args, **kwargs))
    assert_same_strides(got, peer)


@pytest.mark.parametrize("parts", [1, 2, 4, 8, 16, 0.5], ids=lambda parts: f"{parts}-hops")
@pytest.mark.parametrize("n_fft", reference.TRANSFORM_SIZES)
def test_every_radix(n_fft, parts):
    hop = max(1, int(n_fft / parts))
    kwargs = {"window": make_window("random", n_fft), "center": False, "return_complex": True}
    args = make_signal(n_fft + 36 * hop + 3), n_fft, hop
    want = reference.in_float64(torch.stft, *args, **kwargs)
    reference.assert_as_accurate(stft_fp32(*args, **kwargs), torch.stft(*args, **kwargs), want)


@pytest.mark.parametrize("n_fft", [5, 16, 15, 100, 257, 1024])
def test_bins_of_one_frequency_have_the_phase_of_torch(n_fft):
    """The imaginary part is 0 and not -0, which would turn an angle of pi into -pi."""
    x, kwargs = make_signal(8 * n_fft), {"window": make_window("random", n_fft), "return_complex": True}
    got, peer = stft_fp32(x, n_fft, **kwargs), torch.stft(x, n_fft, **kwargs)
    for k in (0, n_fft // 2) if n_fft % 2 == 0 else (0,):
        assert torch.equal(got[k].angle(), peer[k].angle())


@pytest.mark.parametrize("normalized", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize("onesided", [None, True, False], ids=["default", "onesided", "twosided"])
@pytest.mark.parametrize("pad_mode", ["reflect", "constant", "replicate", "circular"])
@pytest.mark.parametrize(("n_fft", "length"), [(20, 1003), (20, 11), (64, 500), (64, 33), (9, 5)], ids=str)
def test_padding_and_normalization(n_fft, length, pad_mode, onesided, normalized):
    args = make_signal(2, length), n_fft, 5
    kwargs = {"window": make_window("hann", n_fft), "pad_mode": pad_mode, "onesided": onesided}
    kwargs |= {"normalized": normalized, "return_complex": True}
    got, peer = stft_fp32(*args, **kwargs), torch.stft(*args, **kwargs)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.stft, *args, **kwargs))
    assert_same_strides(got, peer)


@pytest.mark.parametrize("complex_window", [False, True], ids=["real-window", "complex-window"])
@pytest.mark.parametrize("complex_input", [False, True], ids=["real-input", "complex-input"])
def test_complex(complex_input, complex_window):
    x, w = make_signal(2, 300), make_window("random", 16)
    x, w = (x + 1j * make_signal(2, 300).flip(1) if complex_input else x), (w * (1 - 0.5j) if complex_window else w)
    kwargs = {"window": w, "return_complex": None if complex_input or complex_window else True}
    got, peer = stft_fp32(x, 16, **kwargs), torch.stft(x, 16, **kwargs)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.stft, x, 16, **kwargs))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_low_precision_is_computed_in_float32(dtype):
    x, w = make_signal(2, 900, dtype=dtype), make_window("hann", 100).to(dtype)
    got = stft_fp32(x, 100, window=w, return_complex=True)
    assert torch.equal(got, stft_fp32(x.float(), 100, window=w.float(), return_complex=True))
    peer = torch.stft(x.float(), 100, window=w.float(), return_complex=True)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.stft, x, 100, window=w, return_complex=True))


def test_complex32_is_computed_in_complex64():
    x = torch.view_as_complex(make_signal(200, 2)).to(torch.complex32)
    assert stft_fp32(x, 16, window=make_window("hann", 16)).dtype == torch.complex64


@pytest.mark.parametrize("window_dtype", [torch.float64, torch.int64, torch.bool, torch.float16, None], ids=str)
def test_window_dtype(window_dtype):
    x, w = make_signal(300), None if window_dtype is None else torch.ones(12, dtype=window_dtype)
    got, peer = stft_fp32(x, 16, 4, 12, w, return_complex=True), torch.stft(x, 16, 4, 12, w, return_complex=True)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.stft, x, 16, 4, 12, w, return_complex=True))


@pytest.mark.parametrize("win_length", [7, 10, 16])
def test_align_to_window(win_length):
    args = make_signal(2, 101), 16, 4, win_length, make_window("random", win_length), False
    for align in (True, False):
        kwargs = {"return_complex": True, "align_to_window": align}
        got, peer = stft_fp32(*args, **kwargs), stft(*args, **kwargs)
        reference.assert_as_accurate(got, peer, reference.in_float64(stft, *args, **kwargs))
        if TORCH_ALIGNS:
            assert torch.equal(peer, torch.stft(*args, **kwargs))


def test_return_complex_false_gives_pairs():
    x, w = make_signal(3, 500), make_window("hann", 64)
    got, peer = (f(x, 64, window=w, return_complex=False) for f in (stft_fp32, torch.stft))
    assert_same_strides(got, peer)
    torch.testing.assert_close(got, peer)


def test_strided_input():
    x, w = make_signal(900, 6), make_window("hann", 40)
    for view in (x.t(), x.t()[::2], x.t()[:, ::3], x[:, 1], x.t()[1:, 5:].flip(1), x.t()[:1].expand(4, 900)):
        assert torch.equal(
            stft_fp32(view, 40, window=w, return_complex=True),
            stft_fp32(view.contiguous(), 40, window=w, return_complex=True),
        )


def test_strided_window():
    x, w = make_signal(300), make_window("hann", 32)[::2]
    assert torch.equal(
        stft_fp32(x, 16, window=w, return_complex=True), stft_fp32(x, 16, window=w.clone(), return_complex=True)
    )


def test_empty_batch():
    assert stft_fp32(torch.zeros(0, 50), 16, return_complex=True).shape == (0, 9, 13)


def test_threads_do_not_change_the_bits():
    x, threads = make_signal(2, 30011), torch.get_num_threads()
    for n_fft in (20, 400):
        w = make_window("hann", n_fft)
        two = stft_fp32(x, n_fft, window=w, return_complex=True)
        torch.set_num_threads(1)
        one = stft_fp32(x, n_fft, window=w, return_complex=True)
        torch.set_num_threads(threads)
        assert torch.equal(one, two)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n_fft=st.integers(1, 130), center=st.booleans(), normalized=st.booleans())
def test_any_size(data, n_fft, center, normalized):
    win_length = data.draw(st.integers(1, n_fft))
    args = (
        make_signal(data.draw(st.integers(1, 3)), data.draw(st.integers(n_fft + 1, 700)), dtype=torch.float64),
        n_fft,
        data.draw(st.integers(1, 2 * n_fft)),
        win_length,
        make_window("random", win_length, torch.float64),
        center,
        data.draw(st.sampled_from(["reflect", "constant", "replicate", "circular"])),
        normalized,
    )
    for convert in (torch.Tensor.double, torch.Tensor.float):
        converted = [convert(a) if isinstance(a, torch.Tensor) else a for a in args]
        got, peer = stft_fp32(*converted, return_complex=True), torch.stft(*converted, return_complex=True)
        tolerance = {"rtol": 0, "atol": 4 * torch.finfo(got.dtype).eps * n_fft**0.5 * max(1, peer.abs().max().item())}
        torch.testing.assert_close(got, peer, **tolerance)


X, W = make_signal(50), make_window("hann", 16)
ERRORS = [
    (RuntimeError, "stft requires the return_complex parameter be given for real inputs", (X, 16), {}),
    (RuntimeError, "expected a tensor of floating point or complex values", (X.int(), 16), {"return_complex": True}),
    (RuntimeError, "expected a 1D or 2D tensor", (X.view(1, 2, 25), 16), {"return_complex": True}),
    (RuntimeError, "expected a 1D or 2D tensor", (X[0], 16), {"return_complex": True}),
    (RuntimeError, "Padding size should be less than the corresponding input", (X[:8], 16), {"return_complex": True}),
    (RuntimeError, "wrapping around more than once", (X[:7], 16), {"return_complex": True, "pad_mode": "circular"}),
    (RuntimeError, "other non-zero dimensions", (X[:0], 16), {"return_complex": True, "pad_mode": "replicate"}),
    (RuntimeError, "expected 0 < n_fft < 5, but got n_fft=16", (X[:5], 16), {"return_complex": True, "center": False}),
    (RuntimeError, "expected 0 < n_fft < ", (X, 0, 4), {"return_complex": True}),
    (RuntimeError, "expected hop_length > 0, but got hop_length=0", (X, 16, 0), {"return_complex": True}),
    (RuntimeError, "expected hop_length > 0, but got hop_length=0", (X, 3), {"return_complex": True}),
    (RuntimeError, "expected 0 < win_length <= n_fft, but got win_length=20", (X, 16, 4, 20), {"return_complex": True}),
    (RuntimeError, "expected 0 < win_length <= n_fft, but got win_length=0", (X, 16, 4, 0), {"return_complex": True}),
    (RuntimeError, "1D window tensor of size equal to win_length=16", (X, 16, 4, 16, W[:3]), {"return_complex": True}),
    (RuntimeError, "1D window tensor of size equal to", (X, 16, 4, 16, W[None]), {"return_complex": True}),
    (RuntimeError, "must be on the same device", (X, 16, 4, 16, W.to("meta")), {"return_complex": True}),
    (RuntimeError, "Cannot have onesided output if window or input is complex", (X + 0j, 16), {"onesided": True}),
    (
        RuntimeError,
        "should only be set when center = false",
        (X, 16),
        {"return_complex": True, "align_to_window": True},
    ),
]


@pytest.mark.parametrize(("error", "message", "args", "kwargs"), ERRORS, ids=[e[1][:40] for e in ERRORS])
def test_messages(error, message, args, kwargs):
    if TORCH_ALIGNS or "align_to_window" not in kwargs:
        with pytest.raises(error):
            torch.stft(*args, **kwargs)
    with pytest.raises(error, match=f"stft_fp32: .*{re.escape(message)}"):
        stft_fp32(*args, **kwargs)


def test_unknown_pad_mode():
    with pytest.raises(NotImplementedError, match=r"stft_fp32: .*Unrecognised padding mode foo"):
        stft_fp32(X, 16, window=W, pad_mode="foo", return_complex=True)


@pytest.mark.filterwarnings("ignore:stft with return_complex=False")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128], ids=str)
def test_opinfo_samples(dtype):
    op = opinfo.named("stft")
    for sample in op.sample_inputs("cpu", dtype, requires_grad=True):
        got, peer = (f(sample.input, *sample.args, **sample.kwargs) for f in (stft_fp32, torch.stft))
        torch.testing.assert_close(got, peer)
        opinfo.ran("stft", "forward")
        leaves = [t for t in (sample.input, *sample.kwargs.values()) if isinstance(t, torch.Tensor) and t.requires_grad]
        seed = torch.randn(got.shape, dtype=got.dtype)
        for ours, theirs in zip(
            *(torch.autograd.grad(y, leaves, seed, allow_unused=True) for y in (got, peer)), strict=True
        ):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs)
        opinfo.ran("stft", "backward")


GRADIENTS = [
    {"n_fft": 16, "hop_length": 4},
    {"n_fft": 16, "hop_length": 4, "pad_mode": "constant", "normalized": True},
    {"n_fft": 9, "hop_length": 2, "pad_mode": "replicate"},
    {"n_fft": 8, "hop_length": 3, "pad_mode": "circular", "win_length": 6},
    {"n_fft": 52, "hop_length": 13, "pad_mode": "constant"},
    {"n_fft": 8, "hop_length": 11, "center": False},
    {"n_fft": 8, "hop_length": 3, "onesided": False},
    {"n_fft": 12, "hop_length": 3, "win_length": 7, "center": False, "align_to_window": True},
]


@pytest.mark.parametrize("complex_input", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("kwargs", GRADIENTS, ids=str)
def test_gradients(kwargs, complex_input):
    win_length = kwargs.get("win_length", kwargs["n_fft"])
    x = make_signal(2, 41, dtype=torch.float64)
    x = (x + 1j * x.flip(0) if complex_input else x).requires_grad_()
    w = make_window("random", win_length, torch.float64)

    def f(x):
        return stft_fp32(x, window=w, return_complex=True, **kwargs)

    assert torch.autograd.gradcheck(f, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(f, (x,), fast_mode=True)


@pytest.mark.parametrize("complex_window", [False, True], ids=["real", "complex"])
def test_gradient_of_window(complex_window):
    x = make_signal(30, dtype=torch.float64).requires_grad_()
    w = make_window("random", 8, torch.float64)
    w = (w * (1 + 0.5j) if complex_window else w).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: stft_fp32(x, 8, window=w, return_complex=True), (x, w))


@pytest.mark.parametrize("kwargs", GRADIENTS, ids=str)
def test_float32_gradient_matches_float64_reference(kwargs):
    x, w = make_signal(2, 401), make_window("random", kwargs.get("win_length", kwargs["n_fft"]))
    seed = torch.view_as_complex(torch.randn(*stft_fp32(x, window=w, return_complex=True, **kwargs).shape, 2))

    def gradient(op, x, w, seed):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(op(x, window=w, return_complex=True, **kwargs), x, seed)[0]

    want = gradient(stft, x.double(), w.double(), seed.to(torch.complex128))
    reference.assert_as_accurate(gradient(stft_fp32, x, w, seed), gradient(stft, x, w, seed), want)


@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize("n_fft", [16, 34])
def test_gradient_of_a_sum(n_fft, onesided):
    """All values of the gradient that comes in are one value in memory."""
    x, w = make_signal(200).requires_grad_(), make_window("random", n_fft)
    spectrum = stft_fp32(x, n_fft, 5, window=w, return_complex=True, onesided=onesided)
    one = torch.tensor(1 + 2j)
    got, want = (
        torch.autograd.grad(spectrum, x, grad, retain_graph=True)[0]
        for grad in (one.expand_as(spectrum), torch.full_like(spectrum, one))
    )
    assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_gradient_has_the_dtype_of_the_input(dtype):
    x = make_signal(100, dtype=dtype).requires_grad_()
    stft_fp32(x, 16, window=W, return_complex=True).abs().sum().backward()
    assert x.grad.dtype == dtype


OPCHECKS = [
    {},
    {"pad_mode": "replicate", "normalized": True},
    {"center": False, "win_length": 12},
    {"onesided": False},
    {"return_complex": False},
]


@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize("kwargs", OPCHECKS, ids=str)
def test_opcheck(kwargs, requires_grad):
    w = make_window("hann", kwargs.get("win_length", 16))
    for x in (make_signal(90), make_signal(2, 90)):
        torch.library.opcheck(
            OP, (x.requires_grad_(requires_grad), 16, 4), {"window": w, "return_complex": True} | kwargs
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_opcheck_twosided_and_backward(dtype):
    x, w = make_signal(2, 90).to(dtype), make_window("hann", 16)
    torch.library.opcheck(OP, (x, 16, 4), {"window": w, "return_complex": True, "onesided": False})
    backward = torch.ops.blackwell_compat.stft_fp32_backward.default
    grad = stft_fp32(x, 16, 4, window=w, return_complex=True, onesided=False)
    torch.library.opcheck(backward, (grad, w, 90, 4, 8, "reflect", False, dtype.is_complex))
    half = grad[:, :9]
    for mode in ("reflect", "constant", "replicate", "circular"):
        torch.library.opcheck(backward, (half, w, 90, 4, 8, mode, True, False))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_computes_in_float32(dtype):
    x, w = make_signal(100, dtype=dtype), W
    with torch.autocast("cpu", dtype=dtype):
        assert stft_fp32(x, 16, window=w, return_complex=True).dtype == torch.complex64
        assert stft_fp32(x.double(), 16, window=w, return_complex=True).dtype == torch.complex128


class Spectrum(torch.nn.Module):
    def forward(self, x):
        return stft_fp32(x, 32, 8, window=torch.hann_window(32), return_complex=True)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_with_dynamic_shapes(backend):
    composing.assert_compiles_once(Spectrum(), [make_signal(2, length) for length in (200, 313)], backend)


def test_export():
    composing.exported(Spectrum(), make_signal(2, 200), make_signal(2, 333), 1, least=64)


@pytest.mark.parametrize("pad_mode", ["reflect", "constant", "replicate", "circular"])
def test_function_transforms(pad_mode):
    kwargs = {"n_fft": 16, "window": W, "pad_mode": pad_mode, "return_complex": True}
    ours, theirs = (functools.partial(f, **kwargs) for f in (stft_fp32, torch.stft))
    composing.assert_same_under_transforms_of_one(ours, theirs, make_signal(3, 100))


def test_forward_mode():
    tangent = composing.tangent_of(lambda x: stft_fp32(x, 16, window=W, return_complex=True), X, X.flip(0))
    torch.testing.assert_close(tangent, torch.stft(X.flip(0), 16, window=W, return_complex=True))
