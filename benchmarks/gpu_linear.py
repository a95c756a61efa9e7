"""compat_linear by this package's kernels against F.linear (cuBLAS) on a card that PyTorch has kernels for too.

python benchmarks/gpu_linear.py    # make gpu
"""

import math
import statistics
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from blackwell_compat import _C, compat_linear, kernels
from common import Comparison

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

SQUARE = (1024, 2048, 4096, 8192)
LAYERS_7B = ((4096, 4096), (4096, 11008), (11008, 4096), (4096, 12288), (4096, 32000))  # in, out
ROWS = (1, 2, 4, 8, 16, 32, 64)
COPIES = 2 << 30  # bytes of weights that calls rotate among, so that none is found in the cache
CARD = torch.device("cuda", 0)


class OnCard(Comparison):
    """As Comparison, but timed by events on the card, and with the rates that were reached."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.machine |= {
            "device": torch.cuda.get_device_name(CARD),
            "driver": _C.runtime_driver_version(),
            "cuda": torch.version.cuda,
        }
        print(self.machine)
        self.copy_rate = self._copy_rate()
        print(f"a copy within the card: {self.copy_rate:.0f} GB/s, read and written")

    @staticmethod
    def _copy_rate() -> float:
        source, target = (torch.empty(1 << 30, dtype=torch.uint8, device=CARD) for _ in range(2))
        times = [milliseconds(lambda: target.copy_(source)) for _ in range(20)]
        return 2 * source.nbytes / statistics.median(times) / 1e6

    def products(self, shape: str, ours, peer, count: int, flops: float, moved: float) -> None:
        """`ours(i)` and `peer(i)` for `i` under `count`, in turn."""
        taken: dict[str, list[float]] = {"ours": [], "torch": [], "again": []}
        runs = {"ours": ours, "torch": peer, "again": peer}
        for r in range(35):
            for name, run in runs.items():
                ms = milliseconds(lambda run=run, r=r: run(r % count))
                if r >= 5:
                    taken[name].append(ms)
        ms = {name: statistics.median(times) for name, times in taken.items()}
        ratio, noise = ms["torch"] / ms["ours"], ms["torch"] / ms["again"]
        rates = {"TFLOP/s": flops / ms["ours"] / 1e9, "GB/s": moved / ms["ours"] / 1e6}
        row = {"shape": shape, "ms": ms, "ratio": ratio, "noise": noise, "weight": 1, **rates}
        self.rows.append(row | {"of copy rate": rates["GB/s"] / self.copy_rate})
        print(
            f"{shape:<40} ours {ms['ours']:8.4f} ms {rates['TFLOP/s']:6.1f} TFLOP/s {rates['GB/s']:6.0f} GB/s "
            f"({rates['GB/s'] / self.copy_rate:4.2f} of a copy)  torch/ours {ratio:5.2f}x  torch/torch {noise:5.2f}x"
        )


def milliseconds(call) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


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
    reason = kernels.examine(CARD)
    if reason:
        sys.exit(reason)
    _C.kernels_set_serve(0, True)
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
