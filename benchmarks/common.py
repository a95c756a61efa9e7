"""What every benchmark shares: interleaved timing, the table it prints and the JSON it leaves in benchmarks/results."""

from __future__ import annotations

import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
WARM_UP = 5


def machine() -> dict[str, Any]:
    """The CPU, thread count and torch version that a measurement belongs to."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"cpu": cpu, "threads": torch.get_num_threads(), "torch": torch.__version__}


class Prepared:
    """Calls in a state of their own, which `prepare` brings about, all once untimed and then once timed."""

    def __init__(self, prepare: Callable[[], Any], runs: Sequence[Callable[[], Any]]) -> None:
        self.prepare = prepare
        self.runs = runs


def milliseconds(run: Callable[[], Any] | Prepared) -> float:
    """What one call takes."""
    runs = [run]
    if isinstance(run, Prepared):
        run.prepare()
        runs = run.runs
        for each in runs:
            each()
    start = time.perf_counter()
    for each in runs:
        each()
    return 1e3 * (time.perf_counter() - start) / len(runs)


class Comparison:
    """Rows of ours against torch; `finish` prints geometric mean and worst ratio and writes the JSON."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.machine = machine()
        self.rows: list[dict[str, Any]] = []
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in self.machine.items())}")

    def compare(
        self,
        shape: str,
        ours: Callable[[], Any] | Prepared,
        peer: Callable[[], Any] | Prepared,
        rounds: int = 30,
        weight: float = 1,
    ) -> None:
        """Times both in turn, so that a slow spell hits both; torch runs once more per round to show the noise.

        Rounds are added where calls are short, up to a tenth of a second in all, unless calls have to be prepared.
        `weight` counts in the geometric mean.
        """
        runs = {"ours": ours, "torch": peer, "again": peer}
        once = sum(map(milliseconds, runs.values()))
        warm_up = WARM_UP
        if isinstance(ours, Prepared) or isinstance(peer, Prepared):
            warm_up = 0
        else:
            rounds = min(max(rounds, int(100 / once)), 1000)
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for r in range(rounds + warm_up):
            for name, run in runs.items():
                ms_once = milliseconds(run)
                if r >= warm_up:
                    taken[name].append(ms_once)
        ms = {name: statistics.median(times) for name, times in taken.items()}
        ratio, noise = ms["torch"] / ms["ours"], ms["torch"] / ms["again"]
        self.rows.append({"shape": shape, "ms": ms, "ratio": ratio, "noise": noise, "weight": weight})
        print(
            f"{shape:<44} ours {ms['ours']:8.3f} ms  torch {ms['torch']:8.3f} ms  "
            f"torch/ours {ratio:5.2f}x  torch/torch {noise:5.2f}x"
        )

    def finish(self) -> None:
        ratios, weights = [row["ratio"] for row in self.rows], [row["weight"] for row in self.rows]
        mean = math.exp(statistics.fmean(map(math.log, ratios), weights))
        summary = {"geometric_mean": mean, "worst": min(ratios)}
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps({"machine": self.machine, "rows": self.rows, **summary}, indent=2)
        (RESULTS / f"{self.name}.json").write_text(text + "\n")
        print(f"geometric mean {summary['geometric_mean']:.2f}x, worst {summary['worst']:.2f}x")
