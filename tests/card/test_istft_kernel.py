"""istft_fp32 by this package's kernels on a card, forward and backward; no kernel of PyTorch is started."""

import blackwell_compat as bc
import fakecard
import opinfo
import pytest
import reference
import torch
from by_our_kernels import captured, on_card, only_ours, reset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transform_cases import WORKLOADS, compare, complex_values, there

pytestmark = [
    pytest.mark.usefixtures("our_kernels"),
    pytest.mark.filterwarnings("ignore:.*The length of signal is shorter"),
]


def window_of(n, dtype=torch.float32):
    return reference.values(n, dtype=dtype).abs() + 0.1


def frames_major(x):
    return x.transpose(-1, -2).contiguous().transpose(-1, -2)


def check(x, n_fft, hop_length=None, win_length=None, window=None, **options):
    """Forward, and backward where `x` wants a gradient, against torch on the CPU and in float64."""
    leaves = [t.requires_grad_(x.requires_grad) for t in (there(x), x.detach(), reference.widened(x.detach()))]
    windows = (there(window), window, reference.widened(window))
    functions = (bc.istft_fp32, torch.istft, torch.istft)
    got, _ = compare(functions, leaves, windows, (n_fft, hop_length, win_length), options)
    return got


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_opinfo(dtype):
    """The gradient of a window goes through PyTorch's operators, and so do complex windows."""
    for requires_grad in (False, True):
        for sample in opinfo.named("istft").sample_inputs("cpu", dtype, requires_grad=requires_grad):
            window = sample.kwargs.pop("window", None)
            if window is not None:
                window = window.detach().real.clone()
            check(sample.input, *sample.args, window=window, **sample.kwargs)
            opinfo.ran("istft", "backward" if requires_grad else "forward")
    only_ours()


@pytest.mark.parametrize("layout", [frames_major, torch.Tensor.contiguous], ids=["frames-major", "bins-major"])
@pytest.mark.parametrize("n_fft", reference.TRANSFORM_SIZES)
def test_every_size(n_fft, layout):
    check(layout(complex_values(2, n_fft // 2 + 1, 7)), n_fft, n_fft // 2, n_fft, window_of(n_fft), center=False)
    only_ours()


@pytest.mark.parametrize("sizes", WORKLOADS, ids=str)
def test_workloads(sizes):
    n_fft, hop, win_length = sizes
    x = complex_values(1, n_fft // 2 + 1, 61).requires_grad_()
    check(x, n_fft, hop, win_length, torch.hann_window(win_length), normalized=n_fft == 512)
    only_ours()


@pytest.mark.parametrize("length", [1, 7, 100, 480, -60])
@pytest.mark.parametrize(("n_fft", "center"), [(16, True), (16, False), (80, True)], ids=str)
def test_length(n_fft, center, length):
    check(complex_values(2, n_fft // 2 + 1, 121), n_fft, 4, window=window_of(n_fft), center=center, length=length)
    check(complex_values(2, n_fft // 2 + 1, 9), n_fft, 4, window=window_of(n_fft), center=center, length=1000)
    only_ours()


@pytest.mark.parametrize("n_fft", [16, 15, 100])
@pytest.mark.parametrize("return_complex", [False, True], ids=["real", "complex"])
def test_two_sides(n_fft, return_complex):
    options = {"onesided": False, "return_complex": return_complex}
    check(complex_values(2, n_fft, 30).requires_grad_(), n_fft, 4, n_fft, window_of(n_fft), **options)
    only_ours()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    n_fft=st.integers(2, 200),
    rows=st.integers(1, 3),
    frames=st.integers(2, 100),
    center=st.booleans(),
    normalized=st.booleans(),
    dtype=st.sampled_from([torch.complex64, torch.complex128]),
    window_dtype=st.sampled_from([None, torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    layout=st.sampled_from([frames_major, torch.Tensor.contiguous]),
)
def test_any_size(data, n_fft, rows, frames, center, normalized, dtype, window_dtype, layout):
    hop = data.draw(st.integers(1, n_fft))
    x = layout(complex_values(rows, n_fft // 2 + 1, frames, dtype=dtype.to_real()))
    window = None if window_dtype is None else window_of(n_fft, window_dtype)
    reset()
    got = bc.istft_fp32(there(x), n_fft, hop, n_fft, there(window), center, normalized)
    only_ours()
    want = torch.istft(reference.widened(x), n_fft, hop, n_fft, reference.widened(window), center, normalized)
    allowed = 64 * torch.finfo(got.dtype).eps * max(1, want.abs().max().item())
    torch.testing.assert_close(got.cpu(), want.to(got.dtype), rtol=0, atol=allowed)


def test_sizes_beyond_shared_memory():
    n_fft = 1 << 15
    check(complex_values(1, n_fft // 2 + 1, 4), n_fft, n_fft // 4, n_fft, torch.hann_window(n_fft))
    assert not fakecard.here() or any("large" in name for name in only_ours())


def test_a_large_prime():
    check(complex_values(1, 1010, 9).requires_grad_(), 2018, 700, 2018, window_of(2018))
    only_ours()


def test_complex32_is_computed_in_float32():
    x, window = complex_values(2, 9, 30).to(torch.complex32), window_of(16)
    got = bc.istft_fp32(there(x), 16, window=there(window)).cpu()
    only_ours()
    torch.testing.assert_close(got, torch.istft(x.to(torch.complex64), 16, window=window), rtol=1e-5, atol=1e-5)


def test_strides():
    for n_fft in (16, 34):
        x, window = complex_values(3, 2 * (n_fft // 2 + 1), 60), window_of(n_fft)
        for view in (x[:, ::2], x[:, ::2, 1::3], x[::2, 1::2, 5:], x[:1, ::2].expand(4, -1, -1)):
            there_x, there_window = on_card(view, window)
            got = bc.istft_fp32(there_x, n_fft, window=there_window).cpu()
            torch.testing.assert_close(got, torch.istft(view, n_fft, window=window), rtol=1e-4, atol=1e-4)
    only_ours()


X, W = complex_values(9, 13), torch.hann_window(16)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((X, 16, 4, 16, W), {"center": False}),
        ((X, 16, 16, 16, W), {}),
        ((X.repeat(1, 400), 16, 16, 16, W), {}),
        ((complex_values(65, 500), 128, 128, 128, W.repeat(8)), {}),
        ((X, 16, 8, 12, torch.ones(12)), {"center": False}),
    ],
)
def test_samples_that_no_window_reaches(args, kwargs):
    for istft, place in ((torch.istft, lambda t: t), (bc.istft_fp32, there)):
        with pytest.raises(RuntimeError, match="window overlap add min: 1"):
            istft(*(place(a) if isinstance(a, torch.Tensor) else a for a in args), **kwargs)


def test_an_uncovered_sample_that_is_trimmed_is_no_error():
    check(X, 16, 4, 16, W, center=True, length=30)
    check(complex_values(9, 2), 16, 16, 16, torch.cat([torch.ones(14), torch.zeros(2)]), center=False, length=14)


def waits(x, window):
    reset()
    bc.istft_fp32(x, 16, window=window)
    return fakecard.counters()["stream_sync"]


counts_waits = pytest.mark.skipif(not fakecard.here(), reason="waits are the fake card's; nothing would end this skip")


@counts_waits
def test_a_window_is_asked_for_once_for_each_version():
    x, window = on_card(X, torch.hann_window(16))
    bc.istft_fp32(x, 16, window=window)
    assert [waits(x, window), waits(x, window)] == [0, 0]
    window.copy_(torch.hamming_window(16))
    assert waits(x, window) == 1
    assert waits(x, window) == 0
    window.copy_(torch.zeros(16))
    with pytest.raises(RuntimeError, match="window overlap add min: 1"):
        bc.istft_fp32(x, 16, window=window)


def test_a_window_without_versions_is_asked_for_each_time():
    with torch.inference_mode():
        x, window = on_card(X, torch.ones(16))
        bc.istft_fp32(x, 16, window=window)
        window.copy_(torch.zeros(16))
        with pytest.raises(RuntimeError, match="window overlap add min: 1"):
            bc.istft_fp32(x, 16, window=window)


@counts_waits
@pytest.mark.usefixtures("chosen")
@torch.inference_mode()
def test_a_window_without_versions_is_asked_for_once_for_each_write_where_writes_are_seen():
    x, window, both = on_card(X, torch.hann_window(16), torch.ones(2, 16))
    bc.istft_fp32(x, 16, window=window)
    assert [waits(x, window), waits(x, window)] == [0, 0]
    window.copy_(torch.hamming_window(16))
    assert [waits(x, window), waits(x, window)] == [1, 0]
    window.mul_(0.5)
    assert [waits(x, window), waits(x, window)] == [1, 0]
    bc.istft_fp32(x, 16, window=both[1])
    assert [waits(x, both[1]), waits(x, both[1])] == [0, 0]
    for view in (window.view(2, 8), both):
        view.zero_()
    for zeros in (window, both[1]):
        with pytest.raises(RuntimeError, match="window overlap add min: 1"):
            bc.istft_fp32(x, 16, window=zeros)


@pytest.mark.usefixtures("chosen")
@torch.inference_mode()
def test_a_graph_with_a_window_without_versions():
    x, window, new = on_card(complex_values(2, 39, 20), torch.hann_window(76), torch.hann_window(76))
    first = bc.istft_fp32(x, 76, window=window).cpu()
    graph, got = captured(lambda: bc.istft_fp32(x, 76, window=window))
    graph.replay()
    assert torch.equal(got.cpu(), first)
    with pytest.raises(RuntimeError, match=r"the host does not know the values of this window yet.*run istft once"):
        captured(lambda: bc.istft_fp32(x, 76, window=new))


def test_the_same_bits_each_time():
    x, window = on_card(complex_values(3, 201, 50).requires_grad_(), torch.hann_window(400))
    grad = there(reference.values(3, 49 * 160))
    results = []
    for _ in range(3):
        y = bc.istft_fp32(x, 400, 160, window=window)
        results.append((y.detach().cpu(), torch.autograd.grad(y, x, grad)[0].cpu()))
    for y, dx in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(dx, results[0][1])


def test_round_trip():
    x, window = on_card(reference.values(2, 12345), torch.hann_window(1024))
    spectrum = bc.stft_fp32(x, 1024, 256, window=window, return_complex=True)
    got = bc.istft_fp32(spectrum, 1024, 256, window=window, length=12345)
    torch.testing.assert_close(got.cpu(), x.cpu(), rtol=0, atol=1e-5)
    only_ours()


@pytest.mark.usefixtures("chosen")
def test_a_graph():
    x, window = on_card(complex_values(2, 39, 20), torch.hann_window(76))
    first = bc.istft_fp32(x, 76, window=window).cpu()
    graph, got = captured(lambda: bc.istft_fp32(x, 76, window=window))
    graph.replay()
    assert torch.equal(got.cpu(), first)
    new = there(torch.hann_window(76))
    with pytest.raises(RuntimeError, match=r"the host does not know the values of this window yet.*run istft once"):
        captured(lambda: bc.istft_fp32(x, 76, window=new))


@pytest.mark.usefixtures("chosen")
def test_over_the_fallback():
    """What no kernel computes goes through the fallback: here the gradient of a window, and a second derivative."""
    x, window = complex_values(2, 9, 40), window_of(16)

    def run(x, window):
        x, window = x.detach().requires_grad_(), window.detach().requires_grad_()
        y = bc.istft_fp32(x, 16, window=window)
        grads = torch.autograd.grad(y.square().sum(), (x, window), create_graph=True)
        return *grads, *torch.autograd.grad(grads[0].abs().square().sum(), x)

    for got, want in zip(run(*on_card(x, window)), run(x, window), strict=True):
        torch.testing.assert_close(got.detach().cpu(), want.detach(), rtol=1e-3, atol=1e-3)
    assert bc.coverage()["blackwell_compat::istft_fp32"] == "kernel"


def test_no_window_is_one_of_ones():
    got = bc.istft_fp32(there(X), 16).cpu()
    only_ours()
    torch.testing.assert_close(got, torch.istft(X, 16, window=torch.ones(16)), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("chosen")
def test_compiled():
    """What traces the op has no values for its window."""

    def f(x, window):
        return bc.istft_fp32(x, 16, 4, 12, window).square().sum()

    x, window = on_card(complex_values(2, 9, 40), window_of(12))
    eager, compiled = x.detach().requires_grad_(), x.detach().requires_grad_()
    f(eager, window).backward()
    torch.compile(f, backend="aot_eager", fullgraph=True)(compiled, window).backward()
    torch.testing.assert_close(compiled.grad.cpu(), eager.grad.cpu())
