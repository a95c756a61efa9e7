"""Launches of stft, istft and what stands around them on the emulator; the numbers follow csrc/common/fft_cuda.cpp."""

import ctypes
from dataclasses import dataclass, field

import emulator
import numpy as np
import torch
from products import ceil_div, guarded

THREADS = 256
ODD_RADICES = (61, 59, 53, 47, 43, 41, 37, 31, 29, 23, 19, 17, 13, 11, 7, 5, 3)
IN_REGISTERS = (2, 3, 4, 5, 7, 8)
PADS = ("constant", "reflect", "replicate", "circular")
SUFFIX = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64"}


class FftParams(ctypes.Structure):
    """FftParams of csrc/kernels/fft.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("twiddles", "turn", "chirp", "filter")),
        *((name, ctypes.c_int) for name in ("points", "length", "passes", "lanes", "frames")),
        ("radix", ctypes.c_ubyte * 20),
        ("by_size", ctypes.c_uint * 20),
    )


class StftParams(ctypes.Structure):
    """StftParams of csrc/kernels/stft.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("signal", "window", "out", "workspace")),
        *((name, ctypes.c_longlong) for name in ("row_stride", "sample_stride", "length", "hop", "pad", "n_frames")),
        ("frames", ctypes.c_longlong),
        *((name, ctypes.c_double) for name in ("scale", "edge")),
        *((name, ctypes.c_int) for name in ("n_fft", "bins")),
        ("mode", ctypes.c_byte),
        *((name, ctypes.c_bool) for name in ("is_complex", "mirrors")),
        ("fft", FftParams),
    )


class IstftParams(ctypes.Structure):
    """IstftParams of csrc/kernels/istft.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("spectrum", "window", "out", "workspace")),
        *((name, ctypes.c_longlong) for name in ("row_stride", "bin_stride", "frame_stride", "n_frames", "hop")),
        *((name, ctypes.c_longlong) for name in ("start", "length", "stretches", "stretches_of_row")),
        *((name, ctypes.c_double) for name in ("scale", "edge")),
        ("by_hop", ctypes.c_uint),
        *((name, ctypes.c_int) for name in ("n_fft", "stretch")),
        *((name, ctypes.c_bool) for name in ("one_sided", "is_complex", "divides", "frames_adjoin")),
        ("fft", FftParams),
    )


class FillParams(ctypes.Structure):
    """FillParams of csrc/kernels/spectral.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("from_", "to")),
        *((name, ctypes.c_longlong) for name in ("stride", "size", "width", "left")),
        ("scale", ctypes.c_double),
        ("kind", ctypes.c_int),
    )


class UnpadParams(ctypes.Structure):
    """UnpadParams of csrc/kernels/spectral.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("from_", "to")),
        *((name, ctypes.c_longlong) for name in ("rows", "length", "pad")),
        ("parts", ctypes.c_int),
        ("mode", ctypes.c_byte),
    )


class DivideParams(ctypes.Structure):
    """DivideParams of csrc/kernels/spectral.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("from_", "window", "to")),
        *((name, ctypes.c_longlong) for name in ("row_stride", "stride", "rows", "length", "start", "hop")),
        *((name, ctypes.c_longlong) for name in ("n_frames", "n_fft")),
        ("parts", ctypes.c_int),
    )


def radices(points: int) -> list[int]:
    result, twos = [], 0
    while points % 2 == 0:
        points, twos = points // 2, twos + 1
    for prime in ODD_RADICES:
        while points % prime == 0:
            points //= prime
            result.append(prime)
    if points > 1:
        return []
    fours = 1 if twos % 3 == 2 else 2 if twos % 3 == 1 and twos > 1 else 0
    return result + [8] * ((twos - 2 * fours) // 3) + [4] * fours + [2] * (twos == 1)


def roots(k: np.ndarray, n: int) -> np.ndarray:
    return np.exp(-2j * np.pi * (k % n) / n)


@dataclass
class Fft:
    """What the host decides of frames of n_fft values: tables, and how a block is laid out."""

    n_fft: int
    real: bool
    dtype: torch.dtype
    frames: int = 0  # of a block; 0: as many as its threads serve
    large: bool = False
    kept: list[torch.Tensor] = field(default_factory=list)

    def params(self) -> FftParams:
        pairs = self.real and self.n_fft % 2 == 0
        points = self.n_fft // 2 if pairs else self.n_fft
        passes, length, chirp = radices(points), points, None
        if points > 1 and not passes:
            length = 1 << (2 * points - 2).bit_length()
            passes, chirp = radices(length), roots(np.arange(points) ** 2, 2 * points)
        p = FftParams(points=points, length=length, passes=len(passes), radix=(ctypes.c_ubyte * 20)(*passes))
        tables, size = [np.zeros(0)], 1
        for number, radix in enumerate(passes):
            p.by_size[number] = 0xFFFFFFFF // size
            k = np.arange(size if radix in IN_REGISTERS else radix * size)
            tables += [roots(q * k, radix * size) for q in (range(1, radix) if radix in IN_REGISTERS else (1,))]
            size *= radix
        p.twiddles = self.table(np.concatenate(tables))
        if pairs:
            p.turn = self.table(roots(np.arange(points + 1), self.n_fft))
        if chirp is not None:
            conjugate = np.zeros(length, complex)
            conjugate[:points] = conjugate[-np.arange(points) % length] = chirp.conj() / length
            p.chirp, p.filter = self.table(chirp), self.table(np.fft.fft(conjugate))
        threads = min(max(length // 8, 1), THREADS)
        p.frames = self.frames or THREADS // threads
        p.lanes = min(THREADS // p.frames, length)
        return p

    def table(self, values: np.ndarray) -> int:
        pairs = torch.view_as_real(torch.from_numpy(np.append(values, 0).astype(complex))).to(self.dtype)
        self.kept.append(guarded(pairs))
        return self.kept[-1].data_ptr()

    def launch(self, card: emulator.Emulator, name: str, blocks: int, other_bytes: int, p: ctypes.Structure) -> None:
        """The blocks' memory is shared, or of `large` sizes global, for two blocks that take turns."""
        real_bytes, values = self.dtype.itemsize, p.fft.frames * p.fft.length
        bytes_ = 4 * real_bytes * (values + (values >> (4 if real_bytes == 4 else 3))) + other_bytes
        bytes_ = ceil_div(bytes_, 2 * real_bytes) * 2 * real_bytes
        if self.large:
            workspace = torch.full((2 * bytes_ // real_bytes,), float("nan"), dtype=self.dtype)
            self.kept.append(guarded(workspace))
            p.workspace = self.kept[-1].data_ptr()
        suffix = ("large_" if self.large else "") + name
        kind = "stft" if isinstance(p, StftParams) else "istft"
        card.launch(
            f"compat_{kind}_{suffix}", min(blocks, 2) if self.large else blocks, THREADS, 0 if self.large else bytes_, p
        )


def scalars(t: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(t) if t.is_complex() else t


def placed(t: torch.Tensor) -> torch.Tensor:
    """The same values and strides in memory that ends where the tensor ends."""
    flat = guarded(scalars(torch.as_strided(t, (t.untyped_storage().size() // t.element_size(),), (1,), 0)))
    flat = torch.view_as_complex(flat) if t.is_complex() else flat
    return flat.as_strided(t.shape, t.stride(), t.storage_offset())


def result(shape: tuple[int, ...], dtype: torch.dtype, is_complex: bool) -> torch.Tensor:
    values = guarded(torch.full((*shape, 2) if is_complex else shape, float("nan"), dtype=dtype))
    return torch.view_as_complex(values) if is_complex else values


@dataclass
class Stft:
    """signal (rows, length) of any strides, window (n_fft,) -> (rows, n_frames, bins)."""

    signal: torch.Tensor
    window: torch.Tensor
    hop: int
    pad: int = 0
    mode: str = "constant"
    n_frames: int = 0  # 0: as many as there are
    bins: str = "one"  # side, "all", "zero" above
    scale: float = 1.0
    edge: float = 1.0
    frames: int = 0
    large: bool = False

    def run(self, card: emulator.Emulator) -> torch.Tensor:
        n_fft, (rows, length), is_complex = self.window.numel(), self.signal.shape, self.signal.is_complex()
        signal, window = placed(self.signal), guarded(self.window)
        fft = Fft(n_fft, not is_complex, window.dtype, self.frames, self.large)
        p = StftParams(length=length, hop=self.hop, pad=self.pad, edge=self.edge, n_fft=n_fft, is_complex=is_complex)
        p.n_frames = self.n_frames or (length + 2 * self.pad - n_fft) // self.hop + 1
        p.bins, p.mirrors = n_fft if self.bins != "one" else n_fft // 2 + 1, self.bins == "all"
        out = result((rows, p.n_frames, p.bins), window.dtype, True)
        p.signal, p.window, p.out = signal.data_ptr(), window.data_ptr(), out.data_ptr()
        p.row_stride, p.sample_stride = signal.stride()
        p.frames, p.mode, p.fft = rows * p.n_frames, PADS.index(self.mode), fft.params()
        p.scale = self.scale / 2 if p.fft.turn else self.scale
        dtype = signal.dtype.to_real() if is_complex else signal.dtype
        fft.launch(card, SUFFIX[dtype], ceil_div(p.frames, p.fft.frames), 0, p)
        return out


@dataclass
class Istft:
    """spectrum (rows, bins, n_frames) of any strides, window (n_fft,) -> (rows, length)."""

    spectrum: torch.Tensor
    window: torch.Tensor
    hop: int
    start: int = 0
    length: int = 0  # 0: as far as frames reach
    one_sided: bool = True
    is_complex: bool = False
    divides: bool = True
    scale: float = 1.0
    edge: float = 1.0
    stretch: int = 100
    frames: int = 0
    large: bool = False

    def run(self, card: emulator.Emulator) -> torch.Tensor:
        n_fft, (rows, _bins, n_frames) = self.window.numel(), self.spectrum.shape
        spectrum, window = placed(self.spectrum), guarded(self.window)
        fft = Fft(n_fft, self.one_sided, window.dtype, self.frames, self.large)
        p = IstftParams(n_frames=n_frames, hop=self.hop, start=self.start, n_fft=n_fft, stretch=self.stretch)
        p.by_hop = 0xFFFFFFFF // min(self.hop, 1 << 30)
        p.length = self.length or (n_frames - 1) * self.hop + n_fft - self.start
        p.stretches_of_row = ceil_div(p.length, self.stretch)
        p.stretches = rows * p.stretches_of_row
        out = result((rows, p.length), window.dtype, self.is_complex)
        p.spectrum, p.window, p.out = spectrum.data_ptr(), window.data_ptr(), out.data_ptr()
        p.row_stride, p.bin_stride, p.frame_stride = spectrum.stride()
        p.frames_adjoin = p.frame_stride < p.bin_stride
        p.one_sided, p.is_complex, p.divides = self.one_sided, self.is_complex, self.divides
        p.scale, p.edge, p.fft = self.scale, self.edge, fft.params()
        sums = self.stretch * window.element_size() * (2 if self.is_complex else 1)
        fft.launch(card, SUFFIX[window.dtype], p.stretches, sums, p)
        return out


def fill(card: emulator.Emulator, values: torch.Tensor | None, width: int, size: int, scale: float, dtype: torch.dtype):
    kinds = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    kinds += (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    out = result((size,), dtype, False)
    p = FillParams(to=out.data_ptr(), size=size, width=width, left=(size - width) // 2, scale=scale, stride=1)
    if values is not None:
        values = torch.from_numpy(emulator.buffer(values.view(torch.uint8).numpy())).view(values.dtype)
        p.from_, p.kind = values.data_ptr(), kinds.index(values.dtype)
    card.launch(f"compat_spectral_fill_{SUFFIX[dtype]}", ceil_div(size, THREADS), THREADS, 0, p)
    return out


def unpad(card: emulator.Emulator, padded: torch.Tensor, pad: int, mode: str) -> torch.Tensor:
    rows, length = padded.shape[0], padded.shape[1] - 2 * pad
    values, dtype = placed(padded), scalars(padded).dtype
    out = result((rows, length), dtype, padded.is_complex())
    p = UnpadParams(from_=values.data_ptr(), to=out.data_ptr(), rows=rows, length=length, pad=pad)
    p.parts, p.mode = 2 if padded.is_complex() else 1, PADS.index(mode)
    blocks = ceil_div(rows * length * p.parts, THREADS)
    card.launch(f"compat_spectral_unpad_{SUFFIX[dtype]}", blocks, THREADS, 0, p)
    return out


def divide(card: emulator.Emulator, values: torch.Tensor, window: torch.Tensor, hop: int, n_frames: int, start: int):
    there, w = placed(values), guarded(window)
    out = result(tuple(values.shape), window.dtype, values.is_complex())
    p = DivideParams(from_=there.data_ptr(), window=w.data_ptr(), to=out.data_ptr(), hop=hop, n_frames=n_frames)
    p.row_stride, p.stride = values.stride()
    p.rows, p.length = values.shape
    p.start, p.n_fft, p.parts = start, window.numel(), 2 if values.is_complex() else 1
    blocks = ceil_div(out.numel() * p.parts, THREADS)
    card.launch(f"compat_spectral_divide_{SUFFIX[window.dtype]}", blocks, THREADS, 0, p)
    return out
