"""torch.fft in mode kernel: PyTorch's own suite, sizes of every kind, several dimensions, the layout of results."""

import blackwell_compat as bc
import pytest
import reference
import torch
from by_our_kernels import on_card, only_ours, reset
from opinfo_kernels import OPS, check, entries

pytestmark = pytest.mark.usefixtures("chosen")
TAKEN = {f"aten::_fft_{kind}{overload}" for kind in ("r2c", "c2r", "c2c") for overload in ("", ".out")}
TRANSFORMS = {name: (torch.float32, torch.float64, torch.complex64) for name in OPS if name.startswith("fft_")}


@pytest.mark.parametrize(("name", "dtype"), entries(TRANSFORMS))
def test_opinfo(name, dtype):
    check(name, dtype, TAKEN, most=8)


def compare(function, x):
    there = on_card(x)[0]
    want = function(x)
    reset()
    bc.reset_fallbacks()
    got = function(there)
    only_ours()
    assert not {line.op for line in bc.fallbacks().lines} & TAKEN
    assert got.stride() == want.stride()
    exact = function(x.to(torch.complex128 if x.is_complex() else torch.float64))
    reference.assert_as_accurate(got.cpu(), want, exact)


def complex_values(*shape):
    return torch.complex(reference.values(*shape), reference.values(*shape, seed=1))


# 97 and 1009 are primes, a radix and not; 3 * 5 * 7; 4099 is large and prime
@pytest.mark.parametrize("n", [1, 2, 3, 8, 97, 105, 1009, 1024, 4099, 30000])
def test_sizes(n):
    x = reference.values(3, n)
    compare(torch.fft.rfft, x)
    compare(torch.fft.fft, x)
    compare(torch.fft.fft, complex_values(2, n))
    compare(torch.fft.ifft, complex_values(2, n))
    compare(lambda t: torch.fft.irfft(t, n=n), complex_values(2, n // 2 + 1))


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("dims", [(0,), (1,), (2, 1), (0, 1, 2), (-1, 0)])
def test_dimensions(dims, norm):
    x = reference.values(4, 6, 5)
    for given in (x, x.transpose(0, 1), x[:, ::2]):
        compare(lambda t: torch.fft.rfftn(t, dim=dims, norm=norm), given)
        compare(lambda t: torch.fft.fftn(t, dim=dims, norm=norm), torch.complex(given, given.sin()))
        compare(lambda t: torch.fft.irfftn(t, dim=dims, norm=norm), torch.complex(given, given.sin()))


def test_a_gradient_and_a_vocoders_inverse():
    """As Vocos does it: magnitudes and phases to frames of sound."""
    magnitude, phase = reference.values(1, 641, 9).abs(), reference.values(1, 641, 9, seed=1)

    def frames(m, p):
        return torch.fft.irfft(torch.polar(m, p), 1280, dim=1, norm="backward")

    sides = []
    for given in ((magnitude, phase), on_card(magnitude, phase)):
        leaves = [t.clone().requires_grad_() for t in given]
        out = frames(*leaves)
        out.square().sum().backward()
        sides.append([out.detach(), *(t.grad for t in leaves)])
    for want, got in zip(*sides, strict=True):
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "bins"),
    [(torch.fft.rfft2, 4), (torch.fft.fft2, 6), (torch.fft.irfft2, 10)],
    ids=["rfft2", "fft2", "irfft2"],
)
def test_no_rows(function, bins):
    """MKL may refuse them."""
    there = on_card(complex_values(0, 4, 6) if function is torch.fft.irfft2 else reference.values(0, 4, 6))[0]
    bc.reset_fallbacks()
    assert function(there).shape == (0, 4, bins)
    assert not {line.op for line in bc.fallbacks().lines} & TAKEN
