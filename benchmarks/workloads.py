"""The layers that real models run, with how often one job calls each: benchmarks/workloads.json.

Recorded from the models' own code, built from their published configurations; a job is what "case" says. Conv1d and
ConvTranspose1d: channels, kernel size, samples; Linear: features.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODELS: dict[str, Any] = json.loads((Path(__file__).parent / "workloads.json").read_text())


def layers(model: str, kind: str) -> list[dict[str, Any]]:
    """The distinct layers of `kind` ("linear", "conv1d", "conv_transpose1d") of a model, `calls` among their keys."""
    table = MODELS[model].get(kind, {"columns": [], "rows": []})
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
