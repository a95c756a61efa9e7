"""Launches of gemm and gemv on the emulator, from numpy arrays; the numbers follow csrc/common/gemm_cuda.cpp."""

import ctypes
from dataclasses import dataclass

import emulator
import numpy as np
import torch

LAYOUTS = ("nt", "nn", "tn", "any")
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}
POINTERS, WIDE = ("a", "b", "addend", "out", "partial"), ("M", "N", "K")
STRIDES = ("a_row", "a_k", "b_row", "b_k", "addend_row", "addend_column", "out_row")
BATCHES = ("a_batch", "b_batch", "addend_batch", "out_batch", "k_per_split")
COUNTS = ("row_tiles", "column_tiles", "splits", "batch")


class Params(ctypes.Structure):
    """GemmParams of csrc/kernels/gemm.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in POINTERS),
        *((name, ctypes.c_longlong) for name in (*WIDE, *STRIDES, *BATCHES)),
        *((name, ctypes.c_uint) for name in COUNTS),
        ("activation", ctypes.c_int),
        ("slope", ctypes.c_float),
    )


def guarded(t: torch.Tensor) -> torch.Tensor:
    """The same values in memory that ends where the tensor ends."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[t.element_size()]
    return torch.from_numpy(emulator.buffer(t.contiguous().view(integers).numpy())).view(t.dtype)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def operand_bytes(size: int, element: int, k_major: bool) -> int:
    return size * 80 if k_major else 64 // element * (size * element + (32 if element == 4 else 16))


def threads_of(dtype: str, arch: int, rows: int, columns: int) -> int:
    """Of a tile's product: tensor cores have a warp for 64 or 32 rows and columns each."""
    if arch < {"f16": 700, "bf16": 800, "tf32": 800}.get(dtype, 9999):
        return rows + columns if rows == columns else rows * columns // 64
    return 32 * (rows // (64 if rows >= 128 else 32)) * (columns // (64 if columns >= 128 else 32))


@dataclass
class Product:
    """One product: a (batch, M, K) and b (batch, N, K) as torch tensors of any strides."""

    kernel: str
    a: torch.Tensor
    b: torch.Tensor
    addend: torch.Tensor | None = None
    splits: int = 1
    activation: int = 0
    slope: float = 0.0
    ones: bool = False  # a is not given to the kernel

    def run(self, card: emulator.Emulator, arch: int) -> torch.Tensor:
        kind, dtype, layout, size = self.kernel.removeprefix("compat_").split("_")
        a, b = self.a, self.b
        element = a.element_size()
        batch, (m, k), n = max(a.shape[0], b.shape[0]), a.shape[1:], b.shape[1]
        out = guarded(torch.full((batch, m, n), float("nan"), dtype=a.dtype))
        rows, columns, depth, threads, shared = self.grid(kind, dtype, layout, int(size), element, arch)
        p = Params(
            a=None if self.ones else a.data_ptr(),
            b=b.data_ptr(),
            out=out.data_ptr(),
            M=m,
            N=n,
            K=k,
            out_row=n,
            out_batch=m * n,
        )
        (p.a_batch, p.a_row, p.a_k), (p.b_batch, p.b_row, p.b_k) = a.stride(), b.stride()
        p.a_batch *= a.shape[0] > 1
        p.b_batch *= b.shape[0] > 1
        if self.addend is not None:
            p.addend = self.addend.data_ptr()
            p.addend_batch, p.addend_row, p.addend_column = self.addend.expand(batch, m, n).stride()
        p.row_tiles, p.column_tiles, p.batch = ceil_div(m, rows), ceil_div(n, columns), batch
        p.k_per_split = max(1, ceil_div(ceil_div(k, self.splits), depth)) * depth
        p.splits = max(1, ceil_div(k, p.k_per_split))
        p.activation, p.slope = self.activation, self.slope
        sums = torch.float64 if a.dtype == torch.float64 else torch.float32
        partial = guarded(torch.full((p.splits * out.numel(),), float("nan"), dtype=sums)) if p.splits > 1 else None
        if partial is not None:
            p.partial = partial.data_ptr()
        card.launch(self.kernel, p.row_tiles * p.column_tiles * p.splits * batch, threads, shared, p)
        if partial is not None:
            card.launch(f"compat_gemm_reduce_{dtype.removeprefix('t')}", ceil_div(out.numel(), 256), 256, 0, p)
        return out

    @staticmethod
    def grid(kind: str, dtype: str, layout: str, size: int, element: int, arch: int) -> tuple[int, int, int, int, int]:
        """Rows and columns of the result that a block makes, the least depth, threads, bytes of shared memory."""
        accumulator = 8 if element == 8 else 4
        if kind == "gemm":
            rows = min(size, 128)  # 256: a tile of 128 x 256
            of_a = operand_bytes(rows, element, layout != "tn")
            of_b = operand_bytes(size, element, layout in ("nt", "any"))
            shared = (3 if arch >= 800 else 2) * (of_a + of_b)
            return rows, size, 64 // element, threads_of(dtype, arch, rows, size), shared
        if layout == "nt":
            columns = 4 if size <= 4 else 2
            return size, columns, 16 // element, 128, size * columns * 4 * accumulator
        return size, 32 * 16 // element, 1, 128, 4 * 32 * 16 // element * accumulator


def operand(rows: int, k: int, dtype: torch.dtype, k_major: bool, seed: int, batch: int = 1) -> torch.Tensor:
    """(batch, rows, k) with values from -1 to 1 that `dtype` has exactly."""
    values = np.random.default_rng(seed).uniform(-1, 1, (batch, rows, k))
    t = torch.from_numpy(values).to(dtype)
    return guarded(t) if k_major else guarded(t.transpose(1, 2).contiguous()).transpose(1, 2)


def want(p: Product) -> torch.Tensor:
    """In float64."""
    exact = p.a.double() @ p.b.double().transpose(1, 2)
    return exact if p.addend is None else exact + p.addend.double()
