"""precision_report as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blackwell_compat.precision.report import PrecisionReport


def draw(report: PrecisionReport, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [line for line in report.lines if math.isfinite(line.decibels)]
    if not lines:
        raise ValueError("plot: no module differs from float32, there is nothing to draw")
    figure, axes = pyplot.subplots(figsize=(10, 4.5), layout="constrained")
    low = [(i, line.decibels) for i, line in enumerate(lines) if not line.island]
    wide = [(i, line.decibels) for i, line in enumerate(lines) if line.island]
    axes.plot(*zip(*low, strict=True), ".", label=f"in {report.policy}", color="tab:blue")
    if wide:
        axes.plot(*zip(*wide, strict=True), "s", label="in float32", color="tab:orange")
    axes.axhline(
        report.whole.decibels, linewidth=1, color="tab:red", label=f"the model: {report.whole.decibels:.1f} dB"
    )
    lowest = sorted((line for line in lines if line.name), key=lambda line: line.decibels)[:5]
    names = "\n".join(f"{line.decibels:.1f}  {line.name}" for line in lowest)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9}
    axes.text(0.01, 0.03, f"lowest:\n{names}", transform=axes.transAxes, fontsize=8, family="monospace", bbox=box)
    axes.set_xlabel("modules, in the order in which they return")
    axes.set_ylabel("power of the output over that of its error (dB)")
    axes.set_title(f"{lines[-1].cls}: error of each module against float32")
    axes.legend(loc="best")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
