"""Means and maxima over windows as the emulator runs them, against PyTorch in float64: no card, no torch of CUDA."""

import ctypes

import emulator
import pytest
import reference
import torch
from products import DTYPES, ceil_div, guarded

CASES = {
    "plain": ((7, 9), (3, 2), (2, 1), (1, 0), True, 0),
    "without padding": ((7, 9), (3, 4), (3, 4), (1, 2), False, 0),
    "divisor": ((5, 4), (2, 2), (1, 3), (0, 1), True, 7),
    "one row": ((1, 250), (1, 100), (1, 100), (0, 0), True, 0),
}


class Params(ctypes.Structure):
    """PoolParams of csrc/kernels/pool.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("input", "out", "places")),
        *((name, ctypes.c_longlong) for name in ("in_batch", "in_channel")),
        ("in_axis", ctypes.c_longlong * 3),
        ("results", ctypes.c_longlong),
        ("channels", ctypes.c_int),
        *((name, ctypes.c_int * 3) for name in ("in_size", "out_size", "volume")),
        *((name, ctypes.c_int * 3) for name in ("kernel", "stride", "padding", "dilation")),
        *((name, ctypes.c_int) for name in ("adaptive", "channels_last", "counts_padding")),
        ("divisor", ctypes.c_double),
    )


def three(axes, least):
    return (*(least,) * (3 - len(axes)), *axes)


def run(kernel, dtype, x, size, volume, windows=None, channels_last=False, counts=True, divisor=0, places=None):
    """`windows`: kernel, stride, padding, dilation; None: adaptive. `places` are read, or made where they are []."""
    n, c = x.shape[:2]
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    shape = (n, *size, c) if channels_last else (n, c, *size)
    out = guarded(torch.full(shape, float("nan"), dtype=x.dtype).view(integers).view(x.dtype))
    p = Params(input=x.data_ptr(), out=out.data_ptr(), results=out.numel(), channels=c, divisor=divisor)
    if places == []:
        places.append(torch.from_numpy(emulator.buffer(torch.full(shape, -9).numpy())))
        p.places = places[0].data_ptr()
    elif places is not None:
        p.places = places.data_ptr()
    p.in_batch, p.in_channel = x.stride()[:2]
    p.adaptive, p.channels_last, p.counts_padding = windows is None, channels_last, counts
    axes = {"in_axis": x.stride()[2:], "in_size": x.shape[2:], "out_size": size, "volume": volume}
    for name, values in axes.items():
        getattr(p, name)[:] = three(values, 1)
    if windows:
        for name, values in zip(("kernel", "stride", "padding", "dilation"), windows, strict=True):
            getattr(p, name)[:] = three(values, 0 if name == "padding" else 1)
    emulator.load(800).launch(f"compat_{kernel}_{dtype}", ceil_div(p.results, 256), 256, 0, p)
    order = (0, len(shape) - 1, *range(1, len(shape) - 1))
    if places is not None and channels_last and isinstance(places, list):
        places[0] = places[0].permute(order)
    return out.permute(order) if channels_last else out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_means_and_gradients(dtype, case, ceil_mode):
    image, window, stride, padding, counts, divisor = CASES[case]
    x = guarded(reference.values(2, 3, *image, dtype=DTYPES[dtype]))

    def theirs(x):
        return torch.nn.functional.avg_pool2d(x, window, stride, padding, ceil_mode, counts, divisor or None)

    wide = x.double().requires_grad_()
    exact = theirs(wide)
    grad = guarded(reference.values(*exact.shape, dtype=x.dtype, seed=1))
    (want,) = torch.autograd.grad(exact, wide, grad.double())
    (magnitude,) = torch.autograd.grad(theirs(wide), wide, grad.double().abs())
    windows = window, stride, padding, (1, 1)
    for last in (False, True):
        options = {"windows": windows, "channels_last": last, "counts": counts, "divisor": divisor}
        got = run("pool_mean", dtype, x, exact.shape[2:], image, **options)
        reference.assert_rounded(got, exact.detach(), theirs(wide.detach().abs()))
        got = run("pool_mean_grad", dtype, grad, image, image, **options)
        reference.assert_rounded(got, want, magnitude)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("volume", "size"), [((7, 9), (3, 9)), ((2, 5), (4, 1)), ((3, 6, 5), (2, 4, 5))], ids=str)
def test_adaptive_means_and_gradients(dtype, volume, size):
    x = guarded(reference.values(2, 3, *volume, dtype=DTYPES[dtype]))
    theirs = {2: torch.nn.functional.adaptive_avg_pool2d, 3: torch.nn.functional.adaptive_avg_pool3d}[len(volume)]
    wide = x.double().requires_grad_()
    exact = theirs(wide, size)
    grad = guarded(reference.values(*exact.shape, dtype=x.dtype, seed=1))
    (want,) = torch.autograd.grad(exact, wide, grad.double(), retain_graph=True)
    (magnitude,) = torch.autograd.grad(exact, wide, grad.double().abs())
    for last in (False, True):
        got = run("pool_mean", dtype, x, size, volume, channels_last=last)
        reference.assert_rounded(got, exact.detach(), theirs(wide.detach().abs(), size))
        reference.assert_rounded(
            run("pool_mean_grad", dtype, grad, volume, volume, channels_last=last), want, magnitude
        )


MAXIMA = {
    "ResNet": ((7, 9), ((3, 3), (2, 2), (1, 1), (1, 1))),
    "dilated": ((9, 8), ((2, 3), (1, 2), (1, 0), (3, 2))),
    "volumes": ((4, 5, 6), ((2, 2, 3), (2, 1, 3), (1, 0, 1), (1, 1, 1))),
    "adaptive": ((5, 7), None),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", MAXIMA)
def test_maxima_their_places_and_gradients(dtype, case):
    volume, windows = MAXIMA[case]
    x = guarded(reference.values(2, 3, *volume, dtype=DTYPES[dtype]))
    x[0, 0, 0, :3], x[1, 2, 1, 1] = 5, float("nan")
    wide = x.double().requires_grad_()
    if windows is None:
        exact, at = torch.nn.functional.adaptive_max_pool2d(wide, (3, 4), return_indices=True)
    else:
        theirs = {2: torch.nn.functional.max_pool2d, 3: torch.nn.functional.max_pool3d}[len(volume)]
        exact, at = theirs(wide, *windows, return_indices=True)
    grad = guarded(reference.values(*exact.shape, dtype=x.dtype, seed=1))
    (want,) = torch.autograd.grad(exact, wide, grad.double(), retain_graph=True)
    (magnitude,) = torch.autograd.grad(exact, wide, grad.double().abs())
    for last in (False, True):
        places = []
        got = run("pool_max", dtype, x, exact.shape[2:], volume, windows, last, places=places)
        torch.testing.assert_close(got.double(), exact.detach(), rtol=0, atol=0, equal_nan=True)
        assert torch.equal(places[0], at)
        got = run("pool_max_grad", dtype, grad, volume, volume, windows, last, places=guarded(places[0].contiguous()))
        reference.assert_rounded(got, want, magnitude)
