"""Runs the kernels of csrc/kernels on the CPU, compiled by g++; README.md says what is real.

    card = emulator.load(750)
    x = emulator.buffer(np.arange(5, dtype=np.float32))
    card.launch("name", grid=1, block=32, shared_bytes=0, params=Params(x.ctypes.data, 5))

Under a fake card: `install()`, and launches through the driver run here.
"""

import ctypes
import itertools
import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from .build import KERNELS, build

__all__ = ["Emulator", "EmulatorError", "buffer", "build", "error", "install", "load", "uninstall"]

PAGE = mmap.PAGESIZE
ERROR_BYTES = 4096
libc = ctypes.CDLL(None, use_errno=True)
libraries: dict[Path, ctypes.CDLL] = {}
_live: dict[int, tuple[int, int]] = {}  # buffers: address and bytes
_numbers = itertools.count()
_installed: list[bytes] = []
_dispatcher: ctypes.CDLL | None = None  # the library that the fake card calls


class EmulatorError(RuntimeError):
    """A kernel did what it must not do."""


class Range(ctypes.Structure):
    _fields_ = (("begin", ctypes.c_void_p), ("bytes", ctypes.c_size_t))


def buffer(values: Any) -> np.ndarray:
    """An array with `values` that kernels may use: 16-byte aligned, between pages that nobody may touch.

    Where the size is no multiple of 16, the checked mode alone finds an access to the few bytes behind it.
    """
    values = np.asarray(values)
    room = (values.nbytes + 15) // 16 * 16
    pages = (room + PAGE - 1) // PAGE * PAGE
    mapping = mmap.mmap(-1, pages + 2 * PAGE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    for guard in (first, first + PAGE + pages):
        if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = PAGE + pages - room
    array = np.frombuffer(mapping, values.dtype, values.size, start).reshape(values.shape)
    array[...] = values
    number = next(_numbers)
    _live[number] = (first + start, values.nbytes)
    weakref.finalize(mapping, _live.pop, number)
    return array


def library(path: Path) -> ctypes.CDLL:
    if path not in libraries:
        loaded = ctypes.CDLL(str(path))
        loaded.emulator_kernels.restype = ctypes.c_char_p
        libraries[path] = loaded
    return libraries[path]


class Emulator:
    """The kernels of one folder, compiled for one generation of cards."""

    def __init__(self, path: Path, arch: int) -> None:
        self.path, self.arch, self.library = path, arch, library(path)

    def kernels(self) -> list[str]:
        return sorted(self.library.emulator_kernels().decode().split())

    def launch(
        self,
        name: str,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        shared_bytes: int = 0,
        params: ctypes.Structure | bytes = b"",
    ) -> None:
        """Run a kernel on buffers; back when it is done. Raises EmulatorError with what the kernel did wrong."""

        def three(size: int | tuple[int, ...]) -> Any:
            sizes = (size,) if isinstance(size, int) else tuple(size)
            return (ctypes.c_uint * 3)(*sizes, *(1 for _ in range(3 - len(sizes))))

        live = list(_live.values())
        ranges, data, error = (Range * len(live))(*live), bytes(params), ctypes.create_string_buffer(ERROR_BYTES)
        failed = self.library.emulator_launch(
            *(name.encode(), three(grid), three(block), ctypes.c_size_t(shared_bytes)),
            *(data, ctypes.c_size_t(len(data)), ranges, ctypes.c_size_t(len(live))),
            *(error, ctypes.c_size_t(ERROR_BYTES)),
        )
        if failed:
            raise EmulatorError(error.value.decode())


def load(arch: int, checked: bool | None = None, sources: Path = KERNELS) -> Emulator:
    """The emulator of cards with `__CUDA_ARCH__` `arch`, built if need be. `checked` None: as pytest --checked says."""
    checks = bool(os.environ.get("EMULATOR_CHECKED")) if checked is None else checked
    return Emulator(build(arch, checks, sources), arch)


def install(checked: bool | None = None, sources: Path = KERNELS) -> list[str]:
    """Let every kernel that is launched through the fake card's driver run here. Returns their names."""
    global _dispatcher
    import fakecard

    uninstall()
    cards = [load(card["major"] * 100 + card["minor"] * 10, checked, sources) for card in fakecard.cards_here()]
    _dispatcher = cards[0].library
    for device, card in enumerate(cards):
        _dispatcher.emulator_set_device(device, card.library.emulator_on_card)
    names = sorted({name for card in cards for name in card.kernels()})
    for name in names:
        fakecard.library().fakecard_register_kernel(name.encode(), _dispatcher.emulator_dispatch)
        _installed.append(name.encode())
    return names


def uninstall() -> None:
    import fakecard

    while _installed:
        fakecard.library().fakecard_register_kernel(_installed.pop(), None)


def error() -> str:
    """The text of the last launch through the fake card that failed here, as on stderr. Empty: none did."""
    text = ctypes.create_string_buffer(ERROR_BYTES)
    if _dispatcher:
        _dispatcher.emulator_last_error(text, ctypes.c_size_t(ERROR_BYTES))
    return text.value.decode()
