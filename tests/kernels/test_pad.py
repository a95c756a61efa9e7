"""pad, its gradient, range and band alone in the emulator."""

import ctypes

import emulator
import numpy as np
import pytest

DIMS = 5
CONSTANT, REFLECT, REPLICATE = range(3)
MODES = {CONSTANT: "constant", REFLECT: "reflect", REPLICATE: "edge"}
NUMBERS = [np.float32, np.float64, np.float16, None, np.uint8, np.int8, np.int16, np.int32, np.int64]


class Params(ctypes.Structure):
    """PadParams of csrc/kernels/pad.cuh."""

    _fields_ = (
        ("source", ctypes.c_void_p),
        ("to", ctypes.c_void_p),
        *((name, ctypes.c_longlong * DIMS) for name in ("sizes", "padded", "before", "from_strides", "to_strides")),
        ("elements", ctypes.c_uint),
        ("dims", ctypes.c_int),
        ("fill", ctypes.c_int),
        ("value", ctypes.c_uint * 4),
    )


class RangeParams(ctypes.Structure):
    """RangeParams of csrc/kernels/range.cuh."""

    _fields_ = (
        ("to", ctypes.c_void_p),
        *((name, ctypes.c_longlong) for name in ("size", "half", "whole_start", "whole_step")),
        *((name, ctypes.c_double) for name in ("start", "step", "end")),
        ("number", ctypes.c_int),
        ("real", ctypes.c_bool),
    )


def params(source, to, unpadded, padded, before, fill):
    missing = DIMS - len(before)
    p = Params(source.ctypes.data, to.ctypes.data, elements=to.size, dims=len(before), fill=fill)
    p.sizes[:], p.padded[:] = [1] * missing + list(unpadded.shape), [1] * missing + list(padded.shape)
    p.before[:] = [0] * missing + list(before)
    p.from_strides[:] = [0] * missing + [s // source.itemsize for s in source.strides]
    p.to_strides[:] = [0] * missing + [s // to.itemsize for s in to.strides]
    return p


@pytest.mark.parametrize("fill", MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.int64, np.complex128])
@pytest.mark.parametrize("widths", [[(1, 2)], [(0, 0), (3, 0), (0, 4)], [(0, 0), (0, 0), (1, 1), (2, 3), (4, 4)]])
def test_pads(widths, dtype, fill):
    x = emulator.buffer(np.arange(1, 1 + 5 ** len(widths)).reshape([5] * len(widths)).astype(dtype))
    more = {"constant_values": 7} if fill == CONSTANT else {}
    want = np.pad(x, widths, MODES[fill], **more)
    to = emulator.buffer(np.zeros_like(want))
    p = params(x, to, x, to, [before for before, _ in widths], fill)
    ctypes.memmove(p.value, np.array(7, dtype).tobytes(), x.itemsize)
    emulator.load(800).launch(f"compat_pad_b{x.itemsize}", -(-to.size // 1024), 256, 0, p)
    assert np.array_equal(to, want)


@pytest.mark.parametrize("fill", [REFLECT, REPLICATE])
@pytest.mark.parametrize("widths", [[(3, 2)], [(0, 1), (4, 4)], [(1, 0), (2, 3), (0, 4)]])
def test_gradients(widths, fill):
    """Each element of the padded one is the gradient of the element that it copies."""
    shape = [2] + [5] * len(widths)
    widths = [(0, 0), *widths]
    origin = np.pad(np.arange(np.prod(shape)).reshape(shape), widths, MODES[fill])
    for dtype, name in ((np.float32, "f32"), (np.float64, "f64"), (np.float16, "f16")):
        grad = emulator.buffer((np.arange(origin.size) % 13 - 5).reshape(origin.shape).astype(dtype))
        to = emulator.buffer(np.full(shape, np.nan, dtype))
        p = params(grad, to, to, grad, [before for before, _ in widths], fill)
        emulator.load(800).launch(f"compat_pad_gradient_{name}", -(-to.size // 256), 256, 0, p)
        assert np.array_equal(to.ravel(), np.bincount(origin.ravel(), grad.ravel().astype(np.float64)))


@pytest.mark.parametrize("dtype", [d for d in NUMBERS if d])
def test_ranges(dtype):
    to = emulator.buffer(np.zeros(300, dtype))
    p = RangeParams(to.ctypes.data, 300, 300, -3, 2, -3, 2, 0, NUMBERS.index(dtype), False)
    emulator.load(800).launch("compat_range", 2, 256, 0, p)
    assert np.array_equal(to, (-3 + 2 * np.arange(300)).astype(dtype))
    p = RangeParams(to.ctypes.data, 300, 150, 0, 0, 0, 100 / 299, 100, NUMBERS.index(dtype), True)
    emulator.load(800).launch("compat_range", 2, 256, 0, p)
    np.testing.assert_allclose(to, np.linspace(0, 100, 300).astype(dtype), rtol=1e-3 if dtype == np.float16 else 1e-7)
    assert to[-1] == 100
