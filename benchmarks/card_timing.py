"""What the benchmarks for a card share: timing by events there, and the rates that were reached."""

import functools
import statistics
import sys
import time

import torch
from blackwell_compat import _C, kernels
from common import Comparison

CARD = torch.device("cuda", 0)
SWEPT = 512 << 20  # bytes: more than any card's cache, and longer to write than a call takes to be launched


def need_kernels() -> None:
    """Ends the script where this package's kernels do not work on the card; else its ops take them."""
    reason = kernels.examine(CARD)
    if reason:
        sys.exit(reason)
    _C.kernels_set_serve(0, True)


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

    def products(self, shape: str, ours, peer, count: int, flops: float, moved: float, weight: float = 1) -> None:
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
        row = {"shape": shape, "ms": ms, "ratio": ratio, "noise": noise, "weight": weight, **rates}
        self.rows.append(row | {"of copy rate": rates["GB/s"] / self.copy_rate})
        print(
            f"{shape:<40} ours {ms['ours']:8.4f} ms {rates['TFLOP/s']:6.1f} TFLOP/s {rates['GB/s']:6.0f} GB/s "
            f"({rates['GB/s'] / self.copy_rate:4.2f} of a copy)  torch/ours {ratio:5.2f}x  torch/torch {noise:5.2f}x"
        )


@functools.cache
def _swept() -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.empty(SWEPT, dtype=torch.uint8, device=CARD)


def milliseconds(call, cold: bool = True) -> float:
    """On the card alone: while that writes over its cache first (`cold`), the host gets ahead with what is timed."""
    if cold:
        _swept().zero_()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def whole_calls(run, count: int) -> list[float]:
    """Milliseconds of each of `count` calls, the host's part included."""
    taken = []
    for _ in range(count + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(1e3 * (time.perf_counter() - start))
    return taken[3:]
