"""stft on the emulator against torch.stft in float64, for several generations of cards."""

import emulator
import pytest
import reference
import torch
from transforms import Stft, fill, unpad

ARCHITECTURES = (610, 700, 800, 1200)
LARGEST = 2048  # of the sizes that every pass is tried on


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda arch: f"sm_{arch // 10}")
def card(request):
    return emulator.load(request.param)


def complex_values(*size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.complex(reference.values(*size, dtype=dtype), reference.values(*size, dtype=dtype, seed=1))


def plain(signal: torch.Tensor, window: torch.Tensor, hop: int, onesided: bool) -> torch.Tensor:
    """(rows, frames, bins)"""
    spectrum = torch.stft(
        signal, window.numel(), hop, window=window, center=False, onesided=onesided, return_complex=True
    )
    return spectrum.transpose(1, 2)


def check(op: Stft, card: emulator.Emulator) -> torch.Tensor:
    """Against the transform of the padded signal."""
    got, onesided = op.run(card), op.bins == "one"
    arithmetic = op.window.dtype

    def want(signal: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
        if op.pad:
            signal = torch.nn.functional.pad(signal, (op.pad, op.pad), op.mode)
        spectrum = plain(signal, window * op.scale, op.hop, onesided)
        if not signal.is_complex():
            for k in {0, window.numel() // 2} if window.numel() % 2 == 0 else {0}:
                spectrum[..., k] *= op.edge
            if op.bins == "zero":
                spectrum[..., window.numel() // 2 + 1 :] = 0
        return spectrum

    wide = (reference.widened(op.signal), reference.widened(op.window))
    converted = op.signal.to(torch.complex64 if op.signal.is_complex() else arithmetic)
    converted = converted.to(torch.complex128) if arithmetic == torch.float64 and converted.is_complex() else converted
    reference.assert_as_accurate(got, want(converted, op.window), want(*wide))
    return got


def signal_and_window(n_fft: int, frames: int, hop: int, rows: int = 1, dtype: torch.dtype = torch.float32):
    window = reference.values(n_fft, dtype=dtype).abs() + 0.1
    return reference.values(rows, n_fft + (frames - 1) * hop, dtype=dtype), window


@pytest.mark.parametrize("n_fft", [n for n in reference.TRANSFORM_SIZES if n <= LARGEST] + [1, 5, 7, 122, 257, 134])
def test_every_radix(card, n_fft):
    hop = max(1, n_fft // 3)
    signal, window = signal_and_window(n_fft, 3, hop)
    check(Stft(signal, window, hop), card)
    if n_fft <= 512:
        signal, window = signal_and_window(n_fft, 3, hop, dtype=torch.float64)
        check(Stft(signal, window, hop), card)
        check(Stft(complex_values(2, n_fft + 5), reference.values(n_fft), 5, bins="all"), card)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("n_fft", "length", "hop"), [(20, 104, 5), (64, 33, 7), (9, 5, 2)], ids=str)
def test_padding(card, mode, n_fft, length, hop):
    check(Stft(reference.values(3, length), reference.values(n_fft), hop, n_fft // 2, mode), card)
    check(Stft(complex_values(2, length), reference.values(n_fft), hop, n_fft // 2, mode, bins="all"), card)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_halves_are_read_as_they_are(card, dtype):
    signal, window = reference.values(2, 200, dtype=dtype), reference.values(40)
    assert torch.equal(check(Stft(signal, window, 10), card), Stft(signal.float(), window, 10).run(card))
    pairs = torch.view_as_complex(reference.values(2, 50, 2, dtype=torch.float16))
    check(Stft(pairs, reference.values(15), 4, bins="all"), card)


@pytest.mark.parametrize("n_fft", [1, 2, 15, 16, 134])
@pytest.mark.parametrize("bins", ["one", "all", "zero"])
def test_bins(card, n_fft, bins):
    signal, window = signal_and_window(n_fft, 4, 3, 2)
    got = check(Stft(signal, window, 3, bins=bins, scale=0.7, edge=0.5), card)
    assert not got[..., 0].imag.signbit().any()  # an angle of pi, not -pi
    if n_fft % 2 == 0:
        assert not got[..., n_fft // 2].imag.signbit().any()


@pytest.mark.parametrize("frames", [1, 3, 60])
def test_blocks_of_frames(card, frames):
    """Blocks that the rows of the signal do not fill, at the end or elsewhere, and threads without a frame."""
    signal, window = signal_and_window(24, 7, 10, 3)
    check(Stft(signal, window, 10, frames=frames), card)


@pytest.mark.parametrize("n_fft", [1, 30, 134, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_in_global_memory(card, n_fft, dtype):
    signal, window = signal_and_window(n_fft, 5, 4, dtype=dtype)
    check(Stft(signal, window, 4, frames=1, large=True), card)


def test_frames_beyond_the_signal_are_zero(card):
    got = Stft(reference.values(1, 30), torch.ones(16), 10, pad=3, n_frames=4).run(card)
    want = plain(torch.nn.functional.pad(reference.values(1, 30), (3, 13)), torch.ones(16), 10, True)
    torch.testing.assert_close(got, want)


def test_strides(card):
    signal, window = reference.values(90, 4), reference.values(16)
    for view in (signal.t(), signal.t()[::2, ::3], signal[:, :1].t().expand(3, 90), signal.view(4, 90)[1:, 5:]):
        check(Stft(view, window, 5), card)


def test_a_quiet_frame_keeps_its_digits(card):
    """Frames that are transformed together have roundings of their own."""
    signal, window = signal_and_window(64, 2, 64)
    signal[:, 64:] *= 1e-12
    got, exact = Stft(signal, window, 64).run(card), plain(signal.double(), window.double(), 64, True)
    reference.assert_as_accurate(got[:, 1], plain(signal, window, 64, True)[:, 1], exact[:, 1])


@pytest.mark.parametrize("arithmetic", [torch.float32, torch.float64], ids=str)
def test_fill(card, arithmetic):
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        values = reference.values(300, dtype=dtype)
        want = torch.nn.functional.pad(values.to(arithmetic) * 0.5, (10, 11))
        assert torch.equal(fill(card, values, 300, 321, 0.5, arithmetic), want)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        values = torch.arange(100, 110).to(dtype)
        assert torch.equal(fill(card, values, 10, 10, 1, arithmetic), values.to(arithmetic))
    assert fill(card, None, 3, 6, 2, arithmetic).tolist() == [0, 2, 2, 2, 0, 0]


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("length", "pad"), [(50, 7), (9, 8), (6, 0), (300, 40)], ids=str)
def test_unpad(card, mode, length, pad, is_complex):
    make = complex_values if is_complex else reference.values
    grad = make(2, length + 2 * pad, dtype=torch.float64)
    x = torch.zeros(2, length, dtype=grad.dtype, requires_grad=True)
    padded = torch.nn.functional.pad(x, (pad, pad), mode)
    (want,) = torch.autograd.grad(padded, x, grad)
    torch.testing.assert_close(unpad(card, grad, pad, mode), want)
