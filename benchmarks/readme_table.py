"""Fills the table of the README from benchmarks/results/*.json: python benchmarks/readme_table.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MARKS = re.compile(r"(<!-- benchmarks: begin[^\n]*-->\n).*?(<!-- benchmarks: end -->)", re.DOTALL)

COMPARISONS = {
    "conv1d_kokoro_channels_last_1d": "Conv1d of Kokoro, channels-last-1d",
    "conv1d_kokoro_contiguous": "Conv1d of Kokoro, contiguous",
    "conv_transpose1d_vits_channels_last_1d": "ConvTranspose1d of VITS, channels-last-1d",
    "linear": "Linear of the workloads, 1 to 64 rows",
    "stft": "STFT, 15 s of sound",
    "istft": "iSTFT, 15 s of sound",
}


def result(name: str) -> dict[str, Any] | None:
    file = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def comparison(name: str, what: str) -> str | None:
    found = result(name)
    if found is None:
        return None
    ratio = f"{found['geometric_mean']:.2f} (worst {found['worst']:.2f})"
    script = name.split("_kokoro")[0].split("_vits")[0]
    return f"| {what}: torch / ours | {ratio} | `python benchmarks/bench_{script}.py` |"


def table() -> str:
    rows: list[str | None] = []
    vits = result("vits")
    if vits is not None:
        for name, run in vits["runs"].items():
            if name not in ("eager", "eager again"):
                ratio = f"{run['eager/this']:.2f}"
                rows.append(
                    f"| VITS decoder, 150 frames: eager / {name} | {ratio} | `python benchmarks/bench_vits.py` |"
                )
    for name, what in COMPARISONS.items():
        rows.append(comparison(name, what))
    memory = result("memory")
    if memory is not None:
        for row in memory["rows"]:
            for mode in ("patched", "free_original"):
                what = f"peak memory of a {row['model']}, {mode} / unpatched"
                rows.append(f"| {what} | {row[mode]:.2f} | `python benchmarks/bench_memory.py` |")
    machine = (vits or {}).get("machine", {})
    where = ", ".join(f"{key} {value}" for key, value in machine.items())
    head = f"Float32 on the CPU, ratios of one run each ({where}):\n\n| what | ratio | command |\n| --- | --- | --- |\n"
    return head + "\n".join(row for row in rows if row) + "\n"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(MARKS.sub(lambda found: found[1] + table() + found[2], readme.read_text()))
