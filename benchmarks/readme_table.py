"""Fills the table of the README from benchmarks/results/*.json: python benchmarks/readme_table.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MARKS = re.compile(r"(<!-- benchmarks: begin[^\n]*-->\n).*?(<!-- benchmarks: end -->)", re.DOTALL)


def result(name: str) -> dict[str, Any] | None:
    file = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def comparison(name: str, what: str, command: str) -> str | None:
    found = result(name)
    if found is None:
        return None
    return f"| {what} | {found['geometric_mean']:.2f} (worst {found['worst']:.2f}) | `python benchmarks/{command}` |"


def table() -> str:
    rows = []
    vits = result("vits")
    if vits is not None:
        for name, run in vits["runs"].items():
            if name not in ("eager", "eager again"):
                rows.append(f"| VITS decoder, 150 frames: eager / {name} | {run['eager/this']:.2f} | `bench_vits.py` |")
        rows = [row.replace("`bench", "`python benchmarks/bench") for row in rows]
    rows += [
        comparison(
            "conv1d_kokoro_channels_last_1d", "Conv1d of Kokoro, channels-last-1d: torch / ours", "bench_conv1d.py"
        ),
        comparison("conv1d_kokoro_contiguous", "Conv1d of Kokoro, contiguous: torch / ours", "bench_conv1d.py"),
        comparison(
            "conv_transpose1d_vits_channels_last_1d",
            "ConvTranspose1d of VITS: torch / ours",
            "bench_conv_transpose1d.py",
        ),
        comparison("linear", "Linear of the workloads, 1 to 64 rows: torch / ours", "bench_linear.py"),
        comparison("stft", "STFT, 15 s of sound: torch / ours", "bench_stft.py"),
        comparison("istft", "iSTFT, 15 s of sound: torch / ours", "bench_istft.py"),
    ]
    memory = result("memory")
    if memory is not None:
        rows += [
            f"| {key} | {value:.2f} | `python benchmarks/bench_memory.py` |" for key, value in memory["ratios"].items()
        ]
    machine = (vits or {}).get("machine", {})
    where = ", ".join(f"{key} {value}" for key, value in machine.items())
    head = f"Float32 on the CPU, ratios of one run each ({where}):\n\n| what | ratio | command |\n| --- | --- | --- |\n"
    return head + "\n".join(row for row in rows if row) + "\n"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(MARKS.sub(lambda found: found[1] + table() + found[2], readme.read_text()))
