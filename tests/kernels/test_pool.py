"""Means over windows as the emulator runs them, against PyTorch in float64: no card, no torch of CUDA."""

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
        *((name, ctypes.c_void_p) for name in ("input", "out")),
        *((name, ctypes.c_longlong) for name in ("in_batch", "in_channel")),
        ("in_axis", ctypes.c_longlong * 2),
        ("results", ctypes.c_longlong),
        ("channels", ctypes.c_int),
        *((name, ctypes.c_int * 2) for name in ("in_size", "out_size", "image", "kernel", "stride", "padding")),
        *((name, ctypes.c_int) for name in ("channels_last", "counts_padding")),
        ("divisor", ctypes.c_double),
    )


def run(kernel, dtype, x, size, case, channels_last):
    image, window, stride, padding, counts, divisor = CASES[case]
    n, c = x.shape[:2]
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    shape = (n, *size, c) if channels_last else (n, c, *size)
    out = guarded(torch.full(shape, float("nan"), dtype=x.dtype).view(integers).view(x.dtype))
    p = Params(input=x.data_ptr(), out=out.data_ptr(), results=out.numel(), channels=c, divisor=divisor)
    p.in_batch, p.in_channel, p.in_axis[0], p.in_axis[1] = x.stride()
    for d in range(2):
        p.in_size[d], p.out_size[d], p.image[d] = x.shape[2 + d], size[d], image[d]
        p.kernel[d], p.stride[d], p.padding[d] = window[d], stride[d], padding[d]
    p.channels_last, p.counts_padding = channels_last, counts
    emulator.load(800).launch(f"compat_{kernel}_{dtype}", ceil_div(p.results, 256), 256, 0, p)
    return out.permute(0, 3, 1, 2) if channels_last else out


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
    for last in (False, True):
        got = run("pool_mean", dtype, x, exact.shape[2:], case, last)
        reference.assert_rounded(got, exact.detach(), theirs(wide.detach().abs()))
        got = run("pool_mean_grad", dtype, grad, image, case, last)
        reference.assert_rounded(got, want, magnitude)
