"""stft_fp32 by this package's kernels on a card, forward and backward; no kernel of PyTorch is started."""

import blackwell_compat as bc
import fakecard
import opinfo
import pytest
import reference
import torch
from by_our_kernels import CARD, captured, on_card, only_ours, reset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transform_cases import WORKLOADS, compare, complex_values, there

pytestmark = pytest.mark.usefixtures("our_kernels")

PADS = ["reflect", "constant", "replicate", "circular"]


def check(x, n_fft, hop_length=None, win_length=None, window=None, **options):
    """Forward, and backward where `x` wants a gradient, against torch on the CPU and in float64."""
    options = {"return_complex": True} | options
    wide, peer_x = reference.widened(x.detach()), x.detach()
    if not x.dtype.is_complex and x.dtype.itemsize == 2:
        peer_x = peer_x.float()
    peer_window = window.float() if window is not None and window.dtype.itemsize == 2 else window
    leaves = [t.requires_grad_(x.requires_grad) for t in (there(x), peer_x, wide)]
    windows = (there(window), peer_window, reference.widened(window))
    functions = (bc.stft_fp32, torch.stft, torch.stft)
    got, peer = compare(functions, leaves, windows, (n_fft, hop_length, win_length), options)
    assert got.stride() == peer.stride()
    return got


@pytest.mark.filterwarnings("ignore:stft with return_complex=False")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128], ids=str)
def test_opinfo(dtype):
    """The gradient of a window goes through PyTorch's operators, and so do complex windows."""
    for requires_grad in (False, True):
        for sample in opinfo.named("stft").sample_inputs("cpu", dtype, requires_grad=requires_grad):
            window = sample.kwargs.pop("window", None)
            if window is not None:
                window = window.detach().real.clone()
            check(sample.input, *sample.args, window=window, **sample.kwargs)
            opinfo.ran("stft", "backward" if requires_grad else "forward")
    only_ours()


@pytest.mark.parametrize("n_fft", reference.TRANSFORM_SIZES)
def test_every_size(n_fft):
    check(reference.values(2, 4 * n_fft + 7), n_fft, n_fft // 2 + 1, window=reference.values(n_fft)).cpu()
    only_ours()


@pytest.mark.parametrize("sizes", WORKLOADS, ids=str)
def test_workloads(sizes):
    n_fft, hop, win_length = sizes
    x = reference.values(1, 20 * n_fft + 11).requires_grad_()
    check(x, n_fft, hop, win_length, torch.hann_window(win_length), normalized=n_fft == 512)
    only_ours()


@pytest.mark.parametrize("pad_mode", PADS)
@pytest.mark.parametrize("onesided", [True, False])
def test_padding(pad_mode, onesided):
    for n_fft, length in ((20, 103), (64, 33), (9, 5)):
        x = reference.values(2, length).requires_grad_()
        check(x, n_fft, 5, window=reference.values(n_fft), pad_mode=pad_mode, onesided=onesided, normalized=True)
    x = complex_values(2, 77).requires_grad_()
    check(x, 16, 5, window=reference.values(16), pad_mode=pad_mode)
    only_ours()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    n_fft=st.integers(1, 200),
    rows=st.integers(1, 3),
    center=st.booleans(),
    pad_mode=st.sampled_from(PADS),
    normalized=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64]),
    window_dtype=st.sampled_from([None, torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    onesided=st.booleans(),
    step=st.sampled_from([1, 2]),
)
def test_any_size(data, n_fft, rows, center, pad_mode, normalized, dtype, window_dtype, onesided, step):
    length, win_length = data.draw(st.integers(n_fft + 1, 900)), data.draw(st.integers(1, n_fft))
    hop = data.draw(st.integers(1, 2 * n_fft))
    x = complex_values(rows, length) if dtype.is_complex else reference.values(rows, length * step, dtype=dtype)
    window = None if window_dtype is None else reference.values(win_length, dtype=window_dtype)
    if window_dtype == torch.float64 and dtype != torch.float64:
        step = 1  # converted by our kernels where the input is dense
    x = x[:, ::step] if not dtype.is_complex else x
    options = {"center": center, "pad_mode": pad_mode, "normalized": normalized}
    options["onesided"] = onesided and not dtype.is_complex
    reset()
    got = bc.stft_fp32(there(x), n_fft, hop, win_length, there(window), return_complex=True, **options)
    only_ours()
    args = n_fft, hop, win_length
    want = torch.stft(reference.widened(x), *args, reference.widened(window), return_complex=True, **options)
    eps = torch.finfo(got.dtype).eps
    allowed = 4 * eps * n_fft**0.5 * max(1, want.abs().max().item())
    torch.testing.assert_close(got.cpu(), want.to(got.dtype), rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_halves_are_computed_in_float32(dtype):
    x, window = on_card(reference.values(2, 900, dtype=dtype), reference.values(100, dtype=dtype).abs())
    x_full, window_full = on_card(reference.values(2, 900, dtype=dtype).float(), window.cpu().float())
    args = 100, 30, 100
    got = bc.stft_fp32(x, *args, window, return_complex=True).cpu()
    assert torch.equal(got, bc.stft_fp32(x_full, *args, window_full, return_complex=True).cpu())
    only_ours()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_sizes_beyond_shared_memory(dtype):
    check(reference.values(1, 3 << 15, dtype=dtype), 1 << 15, 1 << 14, window=torch.hann_window(1 << 15, dtype=dtype))
    assert not fakecard.here() or any("large" in name for name in only_ours())


def test_a_large_prime():
    check(reference.values(1, 9000).requires_grad_(), 2 * 1009, 700)
    only_ours()


def test_align_to_window():
    x, window = reference.values(2, 101), reference.values(10)
    got = bc.stft_fp32(there(x), 16, 4, 10, there(window), False, return_complex=True, align_to_window=True).cpu()
    only_ours()
    torch.testing.assert_close(
        got, bc.stft_fp32(x, 16, 4, 10, window, False, return_complex=True, align_to_window=True)
    )


def test_empty_batch():
    assert bc.stft_fp32(torch.zeros(0, 50).to(CARD), 16, return_complex=True).shape == (0, 9, 13)


def test_gradient_of_a_sum():
    """All values of the gradient that comes in are one value in memory."""
    x, window = on_card(reference.values(200).requires_grad_(), reference.values(16))
    y = bc.stft_fp32(x, 16, 5, window=window, return_complex=True)
    one, whole = on_card(torch.tensor(1 + 2j), torch.full(y.shape, 1 + 2j))
    got, want = (torch.autograd.grad(y, x, grad, retain_graph=True)[0].cpu() for grad in (one.expand_as(y), whole))
    assert torch.equal(got, want)
    only_ours()


def test_the_same_bits_each_time():
    x, window, grad = on_card(
        reference.values(3, 5000).requires_grad_(), torch.hann_window(400), complex_values(3, 201, 32)
    )
    results = []
    for _ in range(3):
        y = bc.stft_fp32(x, 400, 160, window=window, return_complex=True)
        results.append((y.detach().cpu(), torch.autograd.grad(y, x, grad)[0].cpu()))
    for y, dx in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(dx, results[0][1])


def test_streams():
    x, window = on_card(reference.values(2, 999), torch.hann_window(60))
    if fakecard.here():
        fakecard.change(latency_ms=2)
    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            got = bc.stft_fp32(x, 60, window=window, return_complex=True)
        stream.synchronize()
        want = torch.stft(x.cpu(), 60, window=window.cpu(), return_complex=True)
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-5)
    finally:
        if fakecard.here():
            fakecard.change(latency_ms=0)


@pytest.mark.usefixtures("chosen")
def test_a_graph():
    x, window = on_card(reference.values(2, 999), torch.hann_window(76))
    first = bc.stft_fp32(x, 76, window=window, return_complex=True).cpu()
    graph, got = captured(lambda: bc.stft_fp32(x, 76, window=window, return_complex=True))
    graph.replay()
    assert torch.equal(got.cpu(), first)
    with pytest.raises(RuntimeError, match=r"tables for n_fft=1906 are not on cuda:0 yet.*run the transform once"):
        captured(lambda: bc.stft_fp32(x, 1906, return_complex=True))


@pytest.mark.usefixtures("chosen")
def test_over_the_fallback():
    """What no kernel computes goes through the fallback: here the gradient of a window, and a second derivative."""
    x, window = reference.values(2, 300), torch.hann_window(16)

    def run(x, window):
        x, window = x.detach().requires_grad_(), window.detach().requires_grad_()
        y = bc.stft_fp32(x, 16, window=window, return_complex=True)
        return torch.autograd.grad(y.abs().sum(), (x, window), create_graph=True)

    for got, want in zip(run(*on_card(x, window)), run(x, window), strict=True):
        torch.testing.assert_close(got.detach().cpu(), want.detach(), rtol=1e-4, atol=1e-4)
    reset()
    assert bc.coverage()["blackwell_compat::stft_fp32"] == "kernel"


@pytest.mark.usefixtures("chosen")
def test_compiled():
    """What traces the op has no values for its window."""

    def f(x, window):
        return bc.stft_fp32(x, 16, 4, 12, window, normalized=True, return_complex=True).abs().sum()

    x, window = on_card(reference.values(2, 300), torch.hann_window(12))
    eager, compiled = x.detach().requires_grad_(), x.detach().requires_grad_()
    f(eager, window).backward()
    torch.compile(f, backend="aot_eager", fullgraph=True)(compiled, window).backward()
    torch.testing.assert_close(compiled.grad.cpu(), eager.grad.cpu())
