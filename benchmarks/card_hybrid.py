"""Layers of XTTS and Kokoro on a card without kernels, batch 1: weights copied to the CPU at every call, as
people do by hand, against mode hybrid. On a fake card, twice: each layer again and again with no bus between, where a
copy is one in memory; and as in a model ("in_turn"), where other layers come between and none finds its weights in the
caches, behind a bus whose copies take as long as on PCIe 3.0 x16, that of a TITAN Xp or a V100: 12 GB/s.

python benchmarks/card_hybrid.py [wheel] starts itself again under the torch of `make wheel-<wheel>`. What people do by
hand runs without the fallback, whose host copies of the weights would serve it too.
"""

import copy
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import fakecard

if __name__ == "__main__":
    fakecard.restart_on("RTX 5090", sys.argv[1] if len(sys.argv) > 1 else "2.4.1", BLACKWELL_COMPAT_FALLBACK="silent")

import blackwell_compat as bc
import torch
from common import Comparison, Prepared
from torch import nn
from workloads import layers

# XTTS' GPT: transformers' Conv1D, which computes as nn.Linear; 30 layers, 107 steps
GPT = [
    {"in": k, "out": n, "bias": True, "calls": 3210}
    for k, n in ((1024, 3072), (1024, 1024), (1024, 4096), (4096, 1024))
]
FEWEST_CALLS = 5  # timed together
BEYOND_CACHES = 100 << 20  # bytes
MOST_COPIES = 64


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


def measure(table, name, rows, make, in_turn):
    for row in rows:
        layer, x = make(row)
        layer, x = layer.eval().to("cuda"), x.to("cuda")
        copies = min(MOST_COPIES, 1 + BEYOND_CACHES // (layer.weight.nbytes + x.nbytes)) if in_turn else 1
        calls = range(max(copies, FEWEST_CALLS))
        by_hand = [ByHand(copy.deepcopy(layer)) for _ in range(copies)]
        patched = [nn.Sequential(copy.deepcopy(layer)) for _ in range(copies)]
        for model in patched:
            bc.patch_model(model, "hybrid")
        with torch.inference_mode():
            got = [model(x).cpu() for model in patched]
            bc.disable()
            for ours, theirs in zip(got, by_hand, strict=True):
                want = theirs(x).cpu()
                assert (ours - want).abs().max() <= 1e-5 * want.abs().max()
            ours = Prepared(bc.enable, [partial(patched[i % copies], x) for i in calls])
            peer = Prepared(bc.disable, [partial(by_hand[i % copies], x) for i in calls])
            shape = " ".join(str(value) for key, value in row.items() if key != "calls")
            table.compare(f"{name} {shape}", ours, peer, 5, row["calls"])
            bc.enable()


def measure_all(suffix, in_turn):
    table = Comparison(f"hybrid_linear{suffix}")
    measure(table, "xtts", GPT + layers("xtts_v2", "linear"), linear, in_turn)
    measure(table, "kokoro", layers("kokoro", "linear"), linear, in_turn)
    table.finish()
    table = Comparison(f"hybrid_conv1d{suffix}")
    for model in ("xtts_v2", "kokoro"):
        rows = sorted(layers(model, "conv1d"), key=lambda row: -row["calls"])[:12]
        measure(table, model, rows, conv1d, in_turn)
    table.finish()


if __name__ == "__main__":
    torch.manual_seed(0)
    bc.enable()
    measure_all("", in_turn=False)
    fakecard.change(bus_gb_per_s=12)
    measure_all("_in_turn", in_turn=True)
