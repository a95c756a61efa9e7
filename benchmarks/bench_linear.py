"""compat_linear against F.linear: 1, 4, 16 and 64 rows of every Linear of the workloads, float32."""

import sys
import timeit
from pathlib import Path

import torch
import torch.nn.functional as F
from blackwell_compat import compat_linear
from common import Comparison
from workloads import MODELS, layers

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

ROWS = (1, 4, 16, 64)
SMALL = 1 << 24  # weights up to this are checked against float64


def shapes() -> list[tuple[int, int]]:
    """(in, out) of the workloads, without repeats, the largest last."""
    found = {(layer["in"], layer["out"]) for model in MODELS for layer in layers(model, "linear")}
    return sorted(found, key=lambda shape: shape[0] * shape[1])


if __name__ == "__main__":
    table = Comparison("linear")
    for k, n in shapes():
        generator = torch.Generator().manual_seed(k * 1_000_003 + n)
        weight = torch.randn(n, k, generator=generator)
        bias = torch.randn(n, generator=generator)
        for rows in ROWS:
            x = torch.randn(rows, k, generator=generator)
            if weight.numel() <= SMALL:
                want = reference.in_float64(F.linear, x, weight, bias)
                reference.assert_as_accurate(compat_linear(x, weight, bias), F.linear(x, weight, bias), want)
            with torch.inference_mode():
                table.compare(
                    f"{k}->{n}, rows {rows}",
                    lambda x=x, w=weight, b=bias: compat_linear(x, w, b),
                    lambda x=x, w=weight, b=bias: F.linear(x, w, b),
                    rounds=7 if weight.numel() > SMALL else 15,
                )
            if rows == 1:
                ms = table.rows[-1]["ms"]["ours"]
                table.rows[-1]["GB/s"] = 4e-6 * weight.numel() / ms
    beyond_cache = [row["GB/s"] for row in table.rows if row.get("GB/s") and row["ms"]["ours"] > 1]
    values = torch.ones(1 << 26)
    times = sorted(timeit.repeat(values.sum, number=1, repeat=9))
    low, high = min(beyond_cache), max(beyond_cache)
    print(
        f"one row, weights beyond the cache: {low:.1f} to {high:.1f} GB/s; torch.sum reads {0.268 / times[4]:.1f} GB/s"
    )
    table.finish()
