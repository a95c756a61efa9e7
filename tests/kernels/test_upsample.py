"""upsample as the emulator runs it, against PyTorch in float64: no card, no torch of CUDA."""

import ctypes

import emulator
import pytest
import reference
import torch
from products import DTYPES, ceil_div, guarded

MODES = {"nearest": 0, "nearest-exact": 1, "bilinear": 2, "corners": 3}
SIZES = [((5, 6), (10, 12)), ((5, 6), (7, 6)), ((7, 9), (3, 2)), ((1, 4), (1, 31)), ((3, 8), (6, 16))]


class Params(ctypes.Structure):
    """UpsampleParams of csrc/kernels/upsample.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("input", "out")),
        *((name, ctypes.c_longlong) for name in ("in_batch", "in_channel")),
        ("in_axis", ctypes.c_longlong * 2),
        ("results", ctypes.c_longlong),
        ("channels", ctypes.c_int),
        *((name, ctypes.c_int * 2) for name in ("in_size", "out_size")),
        *((name, ctypes.c_int) for name in ("channels_last", "piece", "between")),
        ("scale", ctypes.c_double * 2),
    )


def theirs(x, size, mode):
    corners = mode == "corners"
    options = {"align_corners": corners} if corners or mode == "bilinear" else {}
    return torch.nn.functional.interpolate(x, size, mode="bilinear" if corners else mode, **options)


def run(kernel, dtype, x, size, mode, channels_last, pieces):
    n, c = x.shape[:2]
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    shape = (n, *size, c) if channels_last else (n, c, *size)
    out = guarded(torch.full(shape, float("nan"), dtype=x.dtype).view(integers).view(x.dtype))
    p = Params(input=x.data_ptr(), out=out.data_ptr(), results=out.numel(), channels=c, between=MODES[mode])
    p.in_batch, p.in_channel, p.in_axis[0], p.in_axis[1] = x.stride()
    image, result = (size, x.shape[2:]) if "grad" in kernel else (x.shape[2:], size)
    for d in range(2):
        p.in_size[d], p.out_size[d] = x.shape[2 + d], size[d]
        a, b = image[d], result[d]
        scale = (a - 1) / (b - 1) if mode == "corners" and b > 1 else 0.0 if mode == "corners" else a / b
        p.scale[d] = scale if dtype == "f64" and MODES[mode] > 1 else torch.tensor(scale).float().item()
    p.channels_last = channels_last
    piece = 16 // x.element_size()
    p.piece = piece if pieces and (c if channels_last else size[1]) % piece == 0 else 1
    emulator.load(800).launch(f"compat_{kernel}_{dtype}", ceil_div(p.results // p.piece, 256), 256, 0, p)
    return out.permute(0, 3, 1, 2) if channels_last else out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("image", "size"), SIZES)
def test_values(dtype, mode, image, size):
    x = guarded(reference.values(2, 8, *image, dtype=DTYPES[dtype]))
    exact, magnitude = theirs(x.double(), size, mode), theirs(x.double().abs(), size, mode)
    for channels_last, pieces in ((False, True), (True, True), (False, False)):
        got = run("upsample", dtype, x, size, mode, channels_last, pieces)
        reference.assert_rounded(got, exact, 8 * magnitude)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize(("image", "size"), SIZES)
def test_bicubic(dtype, corners, image, size):
    x = guarded(reference.values(2, 8, *image, dtype=DTYPES[dtype]))
    exact, magnitude = (
        torch.nn.functional.interpolate(t, size, mode="bicubic", align_corners=corners)
        for t in (x.double(), x.double().abs())
    )
    for last in (False, True):
        got = run("upsample_cubic", dtype, x, size, "corners" if corners else "bilinear", last, False)
        reference.assert_rounded(got, exact, 16 * (magnitude.abs() + x.double().abs().max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("image", "size"), SIZES)
def test_gradients(dtype, mode, image, size):
    grad = guarded(reference.values(2, 8, *size, dtype=DTYPES[dtype]))
    x = torch.zeros(2, 8, *image, dtype=torch.float64, requires_grad=True)
    wide = grad.double()
    exact, magnitude = (torch.autograd.grad(theirs(x, size, mode), x, g)[0] for g in (wide, wide.abs()))
    for channels_last in (False, True):
        got = run("upsample_grad", dtype, grad, image, mode, channels_last, False)
        reference.assert_rounded(got, exact, 8 * magnitude)
