"""grid_sample as the emulator runs it, against PyTorch in float64: no card, no torch of CUDA."""

import ctypes

import emulator
import pytest
import reference
import torch
from products import DTYPES, ceil_div, guarded

OUTSIDE = ("zeros", "border", "reflection")


class Params(ctypes.Structure):
    """GridSampleParams of csrc/kernels/grid_sample.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("input", "grid", "out")),
        *((name, ctypes.c_longlong) for name in ("in_batch", "in_channel")),
        ("in_axis", ctypes.c_longlong * 2),
        ("grid_batch", ctypes.c_longlong),
        ("grid_axis", ctypes.c_longlong * 2),
        *((name, ctypes.c_longlong) for name in ("grid_part", "results")),
        ("channels", ctypes.c_int),
        *((name, ctypes.c_int * 2) for name in ("in_size", "out_size")),
        *((name, ctypes.c_int) for name in ("nearest", "corners", "outside")),
    )


def run(dtype, x, grid, mode, outside, corners):
    out = guarded(torch.full((*x.shape[:2], *grid.shape[1:3]), 9.0, dtype=x.dtype))
    p = Params(input=x.data_ptr(), grid=grid.data_ptr(), out=out.data_ptr(), results=out.numel(), channels=x.shape[1])
    p.in_batch, p.in_channel, p.in_axis[0], p.in_axis[1] = x.stride()
    p.grid_batch, p.grid_axis[0], p.grid_axis[1], p.grid_part = grid.stride()
    p.in_size[:], p.out_size[:] = x.shape[2:], grid.shape[1:3]
    p.nearest, p.corners, p.outside = mode == "nearest", corners, OUTSIDE.index(outside)
    emulator.load(800).launch(f"compat_grid_sample_{dtype}", ceil_div(p.results, 256), 256, 0, p)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("corners", [False, True])
def test_values(dtype, mode, outside, corners):
    x = guarded(reference.values(2, 3, 5, 7, dtype=DTYPES[dtype]))
    places = torch.arange(-12, 12).view(1, 3, 8).div(6)  # exact in every dtype, and past both ends
    grid = torch.stack([places, places.roll(3, 2) * 0.75], -1).repeat(2, 1, 1, 1)
    grid[1] *= 1.25
    grid = guarded(grid.mul(64).round().div(64).to(x.dtype))
    exact = torch.nn.functional.grid_sample(x.double(), grid.double(), mode, outside, corners)
    got = run(dtype, x, grid, mode, outside, corners)
    limit = 1e-5 if dtype == "f32" else 1e-12 if dtype == "f64" else 2e-2
    torch.testing.assert_close(got.double(), exact, rtol=limit, atol=limit)


def test_positions_that_are_none():
    x = guarded(reference.values(1, 1, 4, 4))
    grid = guarded(
        torch.tensor([float("nan"), 0.0, float("inf"), 0.0, 0.0, -float("inf"), 1e30, 1e30]).view(1, 1, 4, 2)
    )
    assert run("f32", x, grid, "bilinear", "zeros", False).eq(0).all()
