"""How the examples time: both models in every round, so that a slow spell of the machine hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from rich.progress import track


def speed_ratio(
    before: Callable[[], object], after: Callable[[], object], rounds: int, title: str
) -> tuple[float, float, float]:
    """Median seconds of `before` and of `after` over `rounds` interleaved runs, and the first divided by the second."""
    taken: tuple[list[float], list[float]] = ([], [])
    for r in track(range(rounds + 2), description=title, transient=True):
        for run, seconds in zip((before, after), taken, strict=True):
            start = time.perf_counter()
            run()
            if r >= 2:  # two to warm up
                seconds.append(time.perf_counter() - start)
    slow, fast = (statistics.median(seconds) for seconds in taken)
    return slow, fast, slow / fast
