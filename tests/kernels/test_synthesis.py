"""istft on the emulator against torch in float64, for several generations of cards."""

import emulator
import pytest
import reference
import torch
from test_analysis import ARCHITECTURES, LARGEST, complex_values
from transforms import Istft, divide


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda arch: f"sm_{arch // 10}")
def card(request):
    return emulator.load(request.param)


def overlap_added(frames: torch.Tensor, hop: int) -> torch.Tensor:
    """frames (rows, n_frames, n_fft)"""
    rows, n_frames, n_fft = frames.shape
    total = (n_frames - 1) * hop + n_fft
    out = torch.zeros(rows, total, dtype=frames.dtype)
    for t in range(n_frames):
        out[:, t * hop : t * hop + n_fft] += frames[:, t]
    return out


def envelope(window: torch.Tensor, hop: int, n_frames: int) -> torch.Tensor:
    return overlap_added((window * window).expand(1, n_frames, -1), hop)


def check(op: Istft, card: emulator.Emulator) -> torch.Tensor:
    got = op.run(card)
    n_fft, n_frames = op.window.numel(), op.spectrum.shape[2]

    def want(spectrum: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
        bins = spectrum.transpose(1, 2).contiguous()
        if op.one_sided:
            for k in {0, n_fft // 2} if n_fft % 2 == 0 else {0}:
                bins[..., k] *= op.edge
            frames = torch.fft.irfft(bins, n_fft, norm="forward")
        else:
            frames = torch.fft.ifft(bins, norm="forward")
        frames = frames if op.is_complex or op.one_sided else frames.real
        signal = overlap_added(frames * (window * op.scale), op.hop)
        if op.divides:
            signal = signal / envelope(window, op.hop, n_frames)
        return signal[:, op.start :][:, : op.length or None]

    wide = (reference.widened(op.spectrum), reference.widened(op.window))
    reference.assert_as_accurate(got, want(op.spectrum, op.window), want(*wide))
    return got


def window_of(n_fft: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return reference.values(n_fft, dtype=dtype).abs() + 0.1


@pytest.mark.parametrize("n_fft", [n for n in reference.TRANSFORM_SIZES if n <= LARGEST] + [1, 5, 7, 122, 257, 134])
def test_every_radix(card, n_fft):
    hop = max(1, n_fft // 3)
    check(Istft(complex_values(1, n_fft // 2 + 1, 3), window_of(n_fft), hop, stretch=n_fft + 50), card)
    if n_fft <= 512:
        spectrum = complex_values(1, n_fft // 2 + 1, 3, dtype=torch.float64)
        check(Istft(spectrum, window_of(n_fft, torch.float64), hop, stretch=n_fft + 50), card)
        two_sided = Istft(complex_values(1, n_fft, 3), window_of(n_fft), hop, one_sided=False, is_complex=True)
        check(two_sided, card)


@pytest.mark.parametrize("stretch", [1, 7, 33, 500])
@pytest.mark.parametrize("frames", [1, 3, 60])
@pytest.mark.parametrize(("n_fft", "hop"), [(24, 5), (15, 15), (16, 1)], ids=str)
def test_the_cut_does_not_change_the_bits(card, n_fft, hop, frames, stretch):
    spectrum, window = complex_values(2, n_fft // 2 + 1, 9), window_of(n_fft)
    got = check(Istft(spectrum, window, hop, start=3, stretch=stretch, frames=frames), card)
    assert torch.equal(got, Istft(spectrum, window, hop, start=3, stretch=50, frames=2).run(card))


@pytest.mark.parametrize("n_fft", [1, 16, 15, 134])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_two_sides(card, n_fft, is_complex):
    window = window_of(n_fft)
    check(
        Istft(complex_values(2, n_fft, 5), window, 3 if n_fft > 3 else 1, one_sided=False, is_complex=is_complex), card
    )


def test_factors(card):
    for n_fft in (16, 9):
        spectrum, window = complex_values(2, n_fft // 2 + 1, 8), window_of(n_fft)
        check(Istft(spectrum, window, 4, scale=0.3, edge=2, divides=False), card)
        check(Istft(spectrum, window, 4, scale=0.3, edge=2, start=5, length=11), card)


@pytest.mark.parametrize("hop", [20, 100, 2**40])
@pytest.mark.parametrize("frames", [1, 3])
def test_samples_between_frames_are_zero(card, hop, frames):
    n_frames = 1 if hop > 100 else 3
    spectrum, window = complex_values(1, 9, n_frames), window_of(16)
    for divides in (True, False):
        got = Istft(spectrum, window, hop, start=2, length=400, divides=divides, stretch=70, frames=frames).run(card)
        signal = overlap_added(torch.fft.irfft(spectrum.transpose(1, 2), 16, norm="forward") * window, min(hop, 100))
        if divides:
            signal = signal / envelope(window, min(hop, 100), n_frames).clamp(min=1e-9)
        want = torch.zeros(1, 400)
        want[:, : signal.shape[1] - 2] = signal[:, 2:]
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_strides(card):
    x, window = complex_values(3, 18, 20), window_of(16)
    major = x.transpose(1, 2).contiguous().transpose(1, 2)
    for view in (
        x[:, ::2],
        major[:, ::2],
        x[::2, 1::2, 5:],
        x[:1, ::2].expand(4, -1, -1),
        x[:, ::2, :1].expand(-1, -1, 6),
    ):
        check(Istft(view, window, 5), card)


@pytest.mark.parametrize("n_fft", [1, 30, 134, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_in_global_memory(card, n_fft, dtype):
    spectrum, hop = complex_values(2, n_fft // 2 + 1, 4, dtype=dtype), max(1, n_fft // 3)
    check(Istft(spectrum, window_of(n_fft, dtype), hop, stretch=2 * n_fft, frames=1, large=True), card)
    if n_fft < 100:
        two_sided = complex_values(2, n_fft, 4, dtype=dtype)
        op = Istft(
            two_sided, window_of(n_fft, dtype), hop, one_sided=False, is_complex=True, stretch=7, frames=1, large=True
        )
        check(op, card)


@pytest.mark.parametrize("make", [reference.values, complex_values], ids=["real", "complex"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("n_fft", "hop", "start"), [(16, 4, 8), (9, 9, 0), (20, 3, 10)], ids=str)
def test_divide(card, n_fft, hop, start, dtype, make):
    window, wide = window_of(n_fft, dtype), window_of(n_fft, dtype).double()
    length = 5 * hop + n_fft - 2 * start
    for grad in (
        make(2, length, dtype=dtype),
        make(length, 2, dtype=dtype).t(),
        make(1, 1, dtype=dtype).expand(2, length),
    ):
        want = reference.widened(grad) / envelope(wide, hop, 6)[:, start : start + length]
        peer = grad / envelope(window, hop, 6)[:, start : start + length]
        reference.assert_as_accurate(divide(card, grad, window, hop, 6, start), peer, want)
