"""istft_fp32 against torch.istft."""

import functools
import re
import warnings

import composing
import opinfo
import pytest
import reference
import torch
from blackwell_compat import istft_fp32, stft_fp32
from hypothesis import given, settings
from hypothesis import strategies as st
from spectral_cases import make_window

OP = torch.ops.blackwell_compat.istft_fp32.default

# What the workload models ask for, then sizes that divide nothing: n_fft, hop_length, win_length, center, window
MODELS = [
    (16, 4, 16, True, "hann"),  # Chatterbox
    (20, 5, 20, True, "hann"),  # Kokoro
    (400, 160, 400, True, "hann"),
    (512, 160, 400, True, "hamming"),
    (1920, 480, 1920, False, "random"),
    (2048, 256, 1024, True, "hann"),
    (2048, 320, 2048, True, "hann"),
]
AWKWARD = [
    (2, 1, 2, True, "random"),
    (5, 2, 5, True, "random"),
    (6, 6, 6, False, "random"),
    (10, 3, 8, True, "random"),
    (31, 8, 31, False, "random"),
    (34, 9, 34, True, "random"),
    (48, 11, 48, True, "random"),
    (64, 16, 64, True, "hann"),
    (96, 24, 96, True, "hann"),
    (257, 64, 257, True, "random"),
]


def make_spectrum(*size, dtype=torch.complex64):
    pairs = torch.randn(*size, 2, generator=torch.Generator().manual_seed(sum(size)), dtype=torch.float64)
    return torch.view_as_complex(pairs).to(dtype)


def frames_major(spectrum):
    return spectrum.transpose(-1, -2).contiguous().transpose(-1, -2)


@pytest.mark.parametrize("layout", [frames_major, torch.Tensor.contiguous], ids=["frames-major", "bins-major"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
@pytest.mark.parametrize("batch", [(), (3,)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("sizes", MODELS + AWKWARD, ids=str)
def test_matches_float64_reference(sizes, batch, dtype, layout):
    n_fft, hop, win_length, center, kind = sizes
    args = layout(make_spectrum(*batch, n_fft // 2 + 1, 143, dtype=dtype)), n_fft, hop, win_length
    kwargs = {"window": make_window(kind, win_length, dtype.to_real()), "center": center}
    got, peer = istft_fp32(*args, **kwargs), torch.istft(*args, **kwargs)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.istft, *args, **kwargs))
    assert got.stride() == peer.stride()


@pytest.mark.parametrize("layout", [frames_major, torch.Tensor.contiguous], ids=["frames-major", "bins-major"])
@pytest.mark.parametrize("parts", [1, 2, 4, 8, 16, 40], ids=lambda parts: f"{parts}-hops")
@pytest.mark.parametrize("n_fft", reference.TRANSFORM_SIZES)
def test_every_radix(n_fft, parts, layout):
    hop = max(1, n_fft // parts)
    args = layout(make_spectrum(n_fft // 2 + 1, 37)), n_fft, hop, n_fft, make_window("random", n_fft), False
    got, peer = istft_fp32(*args), torch.istft(*args)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.istft, *args))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("n_fft", "hop"), [(16, 4), (64, 16), (9, 2)], ids=str)
def test_few_frames(n_fft, hop, frames):
    args = make_spectrum(2, n_fft // 2 + 1, frames), n_fft, hop, n_fft, make_window("random", n_fft), False
    got, peer = istft_fp32(*args), torch.istft(*args)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.istft, *args))


@pytest.mark.filterwarnings("ignore:.*The length of signal is shorter")
@pytest.mark.parametrize("length", [1, 7, 100, 480, 500, 1000, -60])
@pytest.mark.parametrize(
    ("n_fft", "center", "normalized"), [(16, True, False), (16, False, True), (80, True, True)], ids=str
)
def test_length_and_normalization(n_fft, center, normalized, length):
    kwargs = {"window": make_window("random", n_fft), "center": center, "normalized": normalized, "length": length}
    args = make_spectrum(2, n_fft // 2 + 1, 121), n_fft, 4
    got, peer = istft_fp32(*args, **kwargs), torch.istft(*args, **kwargs)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.istft, *args, **kwargs))


def test_a_length_beyond_the_frames_warns(capfd):
    """Newer torch hands warnings of operators to Python, older prints them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        istft_fp32(make_spectrum(9, 5), 16, window=make_window("random", 16), length=1000)
    told = capfd.readouterr().err + "".join(str(warning.message) for warning in caught)
    assert "istft_fp32: The length of signal is shorter than the length parameter" in told


@pytest.mark.parametrize("n_fft", [16, 15, 100])
def test_twosided(n_fft):
    args = make_spectrum(2, n_fft, 30), n_fft, 4, n_fft, make_window("random", n_fft)
    got, peer = istft_fp32(*args, onesided=False), torch.istft(*args, onesided=False)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.istft, *args, onesided=False))


@pytest.mark.parametrize("complex_window", [False, True], ids=["real-window", "complex-window"])
def test_complex_result(complex_window):
    w = make_window("random", 16) * (1 + 0.2j if complex_window else 1)
    args, kwargs = (make_spectrum(2, 16, 30), 16, 4, 16, w), {"return_complex": True}
    got, peer = istft_fp32(*args, **kwargs), torch.istft(*args, **kwargs)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.istft, *args, **kwargs))


@pytest.mark.parametrize("window_dtype", [torch.float64, torch.int64, torch.bool, torch.bfloat16, None], ids=str)
def test_window_dtype(window_dtype):
    w = None if window_dtype is None else torch.ones(12, dtype=window_dtype)
    args = make_spectrum(2, 9, 30), 16, 4, 12, w
    got, peer = istft_fp32(*args), torch.istft(*args)
    reference.assert_as_accurate(got, peer, reference.in_float64(torch.istft, *args))


def test_complex32_is_computed_in_float32():
    x, w = make_spectrum(2, 9, 30).to(torch.complex32), make_window("random", 16)
    assert torch.equal(istft_fp32(x, 16, window=w), istft_fp32(x.to(torch.complex64), 16, window=w))


def test_strided_and_conjugate_input():
    for n_fft in (16, 34, 64):
        x, w = make_spectrum(3, 2 * (n_fft // 2 + 1), 60), make_window("random", n_fft)
        expanded = (
            x[:1, ::2].expand(4, -1, -1),
            x[:, ::2, :1].expand(-1, -1, 60),
            frames_major(x)[..., :1].expand_as(x)[:, ::2],
        )
        for view in (x[:, ::2], x[:, ::2, 1::3], x[::2, 1::2, 5:], x[:, ::2].flip(2), *expanded):
            torch.testing.assert_close(
                istft_fp32(view, n_fft, window=w), istft_fp32(view.contiguous(), n_fft, window=w), rtol=0, atol=0
            )
        lazy = x[:, ::2].conj()
        assert torch.equal(istft_fp32(lazy, n_fft, window=w), istft_fp32(lazy.resolve_conj(), n_fft, window=w))


@pytest.mark.parametrize("sizes", [*MODELS[:4], (2048, 320, 2048, True, "hann")], ids=str)
def test_round_trip(sizes):
    n_fft, hop, win_length, center, kind = sizes
    x = torch.randn(2, 30 * n_fft + 7, generator=torch.Generator().manual_seed(n_fft))
    args = n_fft, hop, win_length, make_window(kind, win_length), center
    spectrum = stft_fp32(x, *args, return_complex=True)
    torch.testing.assert_close(istft_fp32(spectrum, *args, length=x.shape[1]), x, rtol=0, atol=2e-5)


def test_threads_do_not_change_the_bits():
    threads = torch.get_num_threads()
    for n_fft in (20, 400):
        x, w = make_spectrum(2, n_fft // 2 + 1, 1501), make_window("hann", n_fft)
        two = istft_fp32(x, n_fft, window=w)
        torch.set_num_threads(1)
        one = istft_fp32(x, n_fft, window=w)
        torch.set_num_threads(threads)
        assert torch.equal(one, two)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n_fft=st.integers(2, 130), center=st.booleans(), normalized=st.booleans())
def test_any_size(data, n_fft, center, normalized):
    win_length = n_fft
    hop, frames = data.draw(st.integers(1, win_length)), data.draw(st.integers(2, 300))
    spectrum = make_spectrum(data.draw(st.integers(1, 3)), n_fft // 2 + 1, frames, dtype=torch.complex128)
    if data.draw(st.booleans()):
        spectrum = frames_major(spectrum)
    window = make_window("random", win_length, torch.float64)
    for x, w in ((spectrum, window), (spectrum.to(torch.complex64), window.float())):
        args = x, n_fft, hop, win_length, w, center, normalized
        got, peer = istft_fp32(*args), torch.istft(*args)
        tolerance = {"rtol": 0, "atol": 32 * torch.finfo(got.dtype).eps * max(1, peer.abs().max().item())}
        torch.testing.assert_close(got, peer, **tolerance)


X, W = make_spectrum(9, 13), make_window("hann", 16)
ERRORS = [
    # From torch 2.15 on torch raises TypeError
    (
        (RuntimeError, TypeError),
        "istft requires a complex-valued input tensor",
        (X.real, 16),
        {},
    ),
    (RuntimeError, "input tensor cannot be empty", (X[:, :0], 16), {}),
    (RuntimeError, "input tensor cannot be empty", (X[None][:0], 16), {}),
    (RuntimeError, "expected a tensor with 3 or 4 dimensions, but got 5", (X[None, None], 16), {}),
    (IndexError, "(expected to be in range of [-2, 1], but got -3)", (X[0], 16), {}),
    (RuntimeError, "to match n_fft when onesided=False, but got 9", (X, 16), {"onesided": False}),
    (RuntimeError, "to match n_fft / 2 + 1 when onesided=True, but got 9", (X, 32), {"onesided": True}),
    (RuntimeError, "expected 0 < hop_length <= win_length", (X, 16, 0), {}),
    (RuntimeError, "expected 0 < hop_length <= win_length", (X, 16, 17), {}),
    (RuntimeError, "expected 0 < win_length <= n_fft", (X, 16, 4, 17), {}),
    (RuntimeError, "Invalid window shape. window has to be 1D and length of `win_length`", (X, 16, 4, 16, W[:4]), {}),
    (RuntimeError, "Cannot have onesided output if window or input is complex", (X, 16), {"return_complex": True}),
    (RuntimeError, "Complex windows are incompatible with return_complex=False", (X, 16, 4, 16, W + 0j), {}),
    (RuntimeError, "must be on the same device", (X, 16, 4, 16, W.to("meta")), {}),
    (RuntimeError, "window overlap add min: 1", (X, 16, 4, 16, W), {"center": False}),
    (RuntimeError, "window overlap add min: 1", (X, 16, 16, 16, W), {}),
    (RuntimeError, "window overlap add min: 1", (X.repeat(1, 400), 16, 16, 16, W), {}),
    (RuntimeError, "window overlap add min: 1", (make_spectrum(65, 500), 128, 128, 128), {"window": W.repeat(8)}),
    (RuntimeError, "min(): Expected reduction dim", (X, 16), {"length": 0}),
    (RuntimeError, "min(): Expected reduction dim", (X[:, :1], 16), {}),
]


@pytest.mark.parametrize(("error", "message", "args", "kwargs"), ERRORS, ids=[e[1][:40] for e in ERRORS])
def test_messages(error, message, args, kwargs):
    with pytest.raises(error, match=re.escape(message)):
        torch.istft(*args, **kwargs)
    with pytest.raises(error, match=f"istft_fp32: .*{re.escape(message)}"):
        istft_fp32(*args, **kwargs)


def test_an_uncovered_sample_that_is_trimmed_is_no_error():
    args, kwargs = (X, 16, 4, 16, W), {"center": True, "length": 30}
    torch.testing.assert_close(istft_fp32(*args, **kwargs), torch.istft(*args, **kwargs))


@pytest.mark.filterwarnings("ignore:.*The length of signal is shorter")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_opinfo_samples(dtype):
    op = opinfo.named("istft")
    for sample in op.sample_inputs("cpu", dtype, requires_grad=True):
        got, peer = (f(sample.input, *sample.args, **sample.kwargs) for f in (istft_fp32, torch.istft))
        torch.testing.assert_close(got, peer)
        opinfo.ran("istft", "forward")
        leaves = [t for t in (sample.input, *sample.kwargs.values()) if isinstance(t, torch.Tensor) and t.requires_grad]
        seed = torch.randn(got.shape, dtype=got.dtype)
        for ours, theirs in zip(
            *(torch.autograd.grad(y, leaves, seed, allow_unused=True) for y in (got, peer)), strict=True
        ):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs)
        opinfo.ran("istft", "backward")


GRADIENTS = [
    {"n_fft": 16, "hop_length": 4},
    {"n_fft": 9, "hop_length": 2, "normalized": True},
    {"n_fft": 16, "hop_length": 5, "length": 17, "center": False},
    {"n_fft": 52, "hop_length": 13},
    {"n_fft": 8, "hop_length": 3, "onesided": False},
    {"n_fft": 7, "hop_length": 3, "onesided": False, "return_complex": True},
]


def bins_of(kwargs):
    return kwargs["n_fft"] if kwargs.get("onesided") is False else kwargs["n_fft"] // 2 + 1


@pytest.mark.parametrize("kwargs", GRADIENTS, ids=str)
def test_gradients(kwargs):
    x = make_spectrum(2, bins_of(kwargs), 7, dtype=torch.complex128).requires_grad_()
    w = make_window("random", kwargs["n_fft"], torch.float64)
    assert torch.autograd.gradcheck(lambda x: istft_fp32(x, window=w, **kwargs), (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: istft_fp32(x, window=w, **kwargs), (x,), fast_mode=True)


def test_gradient_of_window():
    x = make_spectrum(5, 7, dtype=torch.complex128).requires_grad_()
    w = make_window("random", 8, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: istft_fp32(x, 8, window=w), (x, w))


@pytest.mark.parametrize("kwargs", GRADIENTS, ids=str)
def test_float32_gradient_matches_float64_reference(kwargs):
    x, w = make_spectrum(2, bins_of(kwargs), 70), make_window("random", kwargs["n_fft"])
    seed = torch.randn_like(istft_fp32(x, window=w, **kwargs))

    def gradient(op, x, w, seed):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(op(x, window=w, **kwargs), x, seed)[0]

    want = gradient(torch.istft, x.to(torch.complex128), w.double(), reference.widened(seed))
    reference.assert_as_accurate(gradient(istft_fp32, x, w, seed), gradient(torch.istft, x, w, seed), want)


OPCHECKS = [{}, {"normalized": True, "center": False, "length": 30}, {"onesided": False}]
TWOSIDED = {"onesided": False, "return_complex": True}


@pytest.mark.parametrize("requires_grad", [False, True], ids=["forward", "grad"])
@pytest.mark.parametrize("kwargs", [*OPCHECKS, TWOSIDED], ids=str)
def test_opcheck(kwargs, requires_grad):
    w, bins = make_window("random", 16), bins_of({"n_fft": 16} | kwargs)
    for x in (make_spectrum(bins, 12), make_spectrum(2, bins, 12)):
        torch.library.opcheck(OP, (x.requires_grad_(requires_grad), 16, 4), {"window": w} | kwargs)


def test_opcheck_backward():
    backward, w = torch.ops.blackwell_compat.istft_fp32_backward.default, make_window("random", 16)
    for onesided in (True, False):
        torch.library.opcheck(backward, (torch.randn(2, 44), w, 12, 4, 8, 1 / 16, onesided, False))
    torch.library.opcheck(backward, (make_spectrum(2, 44), w, 12, 4, 8, 1 / 16, False, True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_computes_in_float32(dtype):
    with torch.autocast("cpu", dtype=dtype):
        assert istft_fp32(X, 16, window=W.to(dtype)).dtype == torch.float32
        assert istft_fp32(X.to(torch.complex32), 16, window=W.to(dtype)).dtype == torch.float32
        assert istft_fp32(X.to(torch.complex128), 16, window=W).dtype == torch.float64


class Signal(torch.nn.Module):
    def forward(self, x):
        return istft_fp32(x, 32, 8, window=torch.hann_window(32), length=8 * x.shape[-1] - 9)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_with_dynamic_shapes(backend):
    composing.assert_compiles_once(Signal(), [make_spectrum(2, 17, frames) for frames in (20, 33)], backend)


def test_export():
    composing.exported(Signal(), make_spectrum(2, 17, 20), make_spectrum(2, 17, 41), 2, least=8)


def test_function_transforms():
    ours, theirs = (functools.partial(f, n_fft=16, window=W) for f in (istft_fp32, torch.istft))
    composing.assert_same_under_transforms_of_one(ours, theirs, make_spectrum(3, 9, 20))


def test_forward_mode():
    tangent_in = X.flip(0).contiguous()
    tangent = composing.tangent_of(lambda x: istft_fp32(x, 16, window=W), X, tangent_in)
    torch.testing.assert_close(tangent, torch.istft(tangent_in, 16, window=W))
