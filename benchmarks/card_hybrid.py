"""Layers of XTTS and Kokoro on a card without kernels, batch 1: weights copied to the CPU at every call, as
people do by hand, against mode hybrid. On a fake card, whose copies are copies in memory, with no bus between.

python benchmarks/card_hybrid.py [wheel] starts itself again under the torch of `make wheel-<wheel>`.
"""

import copy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import fakecard

if __name__ == "__main__":
    fakecard.restart_on("RTX 5090", sys.argv[1] if len(sys.argv) > 1 else "2.4.1", BLACKWELL_COMPAT_FALLBACK="silent")

import blackwell_compat as bc
import torch
from common import Comparison
from torch import nn
from workloads import layers

# XTTS' GPT: transformers' Conv1D, which computes as nn.Linear; 30 layers, 107 steps
GPT = [
    {"in": k, "out": n, "bias": True, "calls": 3210}
    for k, n in ((1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024))
]


class ByHand(nn.Module):
    """A layer on the card whose weights and input go to the CPU at every call, and the result back."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        on_cpu = {name: p.cpu() for name, p in self.layer.named_parameters()}
        return torch.func.functional_call(self.layer, on_cpu, (x.cpu(),)).to(x.device)


def linear(row):
    return nn.Linear(row["in"], row["out"], row["bias"]), torch.randn(1, row["in"])


def conv1d(row):
    options = {name: row[name] for name in ("stride", "padding", "dilation", "groups", "bias")}
    layer = nn.Conv1d(row["cin"], row["cout"], row["k"], **options)
    return layer, torch.randn(row["batch"], row["cin"], row["length"])


def measure(table, name, rows, make):
    for row in rows:
        layer, x = make(row)
        layer, x = layer.eval().to("cuda"), x.to("cuda")
        by_hand, patched = ByHand(layer), nn.Sequential(copy.deepcopy(layer))
        bc.patch_model(patched, "hybrid")
        with torch.inference_mode():
            want = by_hand(x)
            assert (patched(x) - want).abs().max() <= 1e-5 * want.abs().max()
            shape = " ".join(str(value) for key, value in row.items() if key != "calls")
            table.compare(f"{name} {shape}", lambda m=patched, x=x: m(x), lambda m=by_hand, x=x: m(x), 10, row["calls"])


if __name__ == "__main__":
    torch.manual_seed(0)
    bc.enable()
    table = Comparison("hybrid_linear")
    measure(table, "xtts", GPT + layers("xtts_v2", "linear"), linear)
    measure(table, "kokoro", layers("kokoro", "linear"), linear)
    table.finish()
    table = Comparison("hybrid_conv1d")
    for model in ("xtts_v2", "kokoro"):
        measure(table, model, sorted(layers(model, "conv1d"), key=lambda row: -row["calls"])[:12], conv1d)
    table.finish()
