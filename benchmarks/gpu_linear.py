"""compat_linear by this package's kernels against F.linear (cuBLAS) on a card that PyTorch has kernels for too.

python benchmarks/gpu_linear.py    # make gpu
"""

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from blackwell_compat import compat_linear
from card_timing import CARD, OnCard, need_kernels

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

SQUARE = (1024, 2048, 4096, 8192)
LAYERS_7B = ((4096, 4096), (4096, 11008), (11008, 4096), (4096, 12288), (4096, 32000))  # in, out
ROWS = (1, 2, 4, 8, 16, 32, 64)
COPIES = 2 << 30  # bytes of weights that calls rotate among, so that none is found in the cache


def compare(table: OnCard, dtype: torch.dtype, rows: int, k: int, n: int) -> None:
    x = torch.randn(rows, k, device=CARD).to(dtype)
    element = x.element_size()
    count = max(1, min(16, math.ceil(COPIES / (n * k * element)))) if rows <= 64 else 1
    weights = [torch.randn(n, k, device=CARD).to(dtype) for _ in range(count)]
    want = F.linear(x.double(), weights[0].double())
    reference.assert_as_accurate(compat_linear(x, weights[0]), F.linear(x, weights[0]), want)
    table.products(
        f"{str(dtype).removeprefix('torch.')} {rows} x {k} -> {n}",
        lambda i: compat_linear(x, weights[i]),
        lambda i: F.linear(x, weights[i]),
        count,
        2.0 * rows * k * n,
        float(element) * (rows * k + k * n + rows * n),
    )


if __name__ == "__main__":
    need_kernels()
    with torch.inference_mode():
        products = OnCard("gpu_gemm")
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            for size in SQUARE:
                compare(products, dtype, size, size, size)
        products.finish()
        rows_table = OnCard("gpu_gemv")
        for dtype in (torch.bfloat16, torch.float32):
            for k, n in LAYERS_7B:
                for rows in ROWS:
                    compare(rows_table, dtype, rows, k, n)
        rows_table.finish()
