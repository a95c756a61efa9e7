"""How long the kernels of a model take until they can be loaded: cold, compiled by NVRTC; warm, from the disk.

Matrix products of a bfloat16 Llama; all kernels that Kokoro launches (kokoro_kernels.json, which
tests/card/test_kernel_models.py holds to what it does).

Several at a time, as blackwell_compat.warmup does; no card is needed. Wall times are medians; the processor's time of
each compilation stands in the JSON, and hardly knows what else the machine does.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from blackwell_compat import _C, compilers
from common import RESULTS, machine

ROUNDS = 3
KOKORO = json.loads((Path(__file__).parent / "kokoro_kernels.json").read_text())


class Case(NamedTuple):
    model: str
    capability: int
    kernels: list[str]
    bars_ms: dict[str, float]


def get(kernel: str, capability: int) -> float:
    """Milliseconds of this thread's processor."""
    start = time.thread_time()
    options = _C.runtime_kernel_options(f"sm_{capability}", 10 * capability)
    _C.runtime_compile(f"{kernel}.cu", _C.runtime_kernel_source(kernel), options, capability)
    return 1e3 * (time.thread_time() - start)


def cases() -> list[Case]:
    llama = {"cold": 3000, "warm": 50}
    return [
        *(Case("Llama", arch, _C.kernels_for_linear(torch.bfloat16, arch), llama) for arch in (120, 61)),
        Case("Kokoro", 120, KOKORO, {"cold": 15000, "warm": 300}),
    ]


def measure(case: Case) -> dict[str, Any]:
    kernels, capability = case.kernels, case.capability
    wall: dict[str, list[float]] = {"cold": [], "warm": []}
    processor: dict[str, list[float]] = {kernel: [] for kernel in kernels}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
            os.environ["BLACKWELL_COMPAT_CACHE_DIR"] = folder
            for name, taken in wall.items():
                start = time.perf_counter()
                used = list(pool.map(get, kernels, [capability] * len(kernels)))
                taken.append(1e3 * (time.perf_counter() - start))
                if name == "cold":
                    for kernel, ms in zip(kernels, used, strict=True):
                        processor[kernel].append(ms)
    ms = {name: statistics.median(taken) for name, taken in wall.items()}
    return {
        "model": case.model,
        "architecture": f"sm_{capability}",
        "ms": ms,
        "ratio": ms["cold"] / ms["warm"],
        "processor_ms": {kernel: statistics.median(taken) for kernel, taken in processor.items()},
    }


def main() -> None:
    found = {one["path"]: one["version"] for one in compilers.compilers()}
    if not found:
        print("compile: no NVRTC here; pip install 'nvidia-cuda-nvrtc-cu12>=12.9,<13'")
        return
    about = machine()
    print(f"compile: {', '.join(f'{key} {value}' for key, value in about.items())}")
    rows = []
    for case in cases():
        row = {"compiler": f"NVRTC {found[_C.runtime_target(case.capability)[0]]}", **measure(case)}
        rows.append(row)
        ms, processor = row["ms"], row["processor_ms"]
        missed = [f"{name} misses by {ms[name] - bar:.0f} ms" for name, bar in case.bars_ms.items() if ms[name] >= bar]
        slowest = max(processor, key=processor.get)
        print(
            f"{case.model}: {len(processor)} kernels for {row['architecture']:<6} by {row['compiler']}  "
            f"cold {ms['cold']:7.0f} ms  warm {ms['warm']:6.2f} ms  cold/warm {row['ratio']:5.0f}x  "
            f"processor {sum(processor.values()):6.0f} ms, {processor[slowest]:.0f} of it {slowest}"
        )
        bars = ", ".join(f"{name} {bar} ms" for name, bar in case.bars_ms.items())
        print(f"  bars: {bars}; {', '.join(missed) or 'kept'}")
    (RESULTS / "compile.json").write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
