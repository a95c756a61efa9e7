"""What the tests of the emulator share: its test kernels, and a launch of one."""

import ctypes
from pathlib import Path

import numpy as np

import emulator

KERNELS = Path(__file__).parent / "kernels"


class Params(ctypes.Structure):
    _fields_ = (("x", ctypes.c_void_p), ("y", ctypes.c_void_p), ("n", ctypes.c_int))


def launched(name, x, y, n=0, grid=1, block=32, shared_bytes=0, arch=800, checked=None):
    """What test kernel `name` makes of arrays `x` and `y`: its `y`."""
    x, y = emulator.buffer(x), emulator.buffer(y)
    params = Params(x.ctypes.data, y.ctypes.data, n)
    emulator.load(arch, checked, KERNELS).launch(name, grid, block, shared_bytes, params)
    return np.array(y)
