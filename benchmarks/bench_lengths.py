"""A new length for each sentence: the VITS decoder over lengths that it has not met before, eager and patched.

PyTorch makes a primitive per shape, so a new length costs it more than a known one; the blocks of this package do not.
Prints the ratio eager / patched over new lengths and over the same lengths again, and new / again for both.
"""

import copy
import json
import statistics
import time

import blackwell_compat
import torch
from common import RESULTS, machine
from transformers import VitsConfig
from transformers.models.vits.modeling_vits import VitsHifiGan

LENGTHS = [40 + 7 * i for i in range(12)]  # frames

if __name__ == "__main__":
    torch.manual_seed(0)
    config = VitsConfig()
    eager = VitsHifiGan(config).eval()
    patched = copy.deepcopy(eager)
    blackwell_compat.patch_model(patched)
    sentences = [torch.randn(1, config.flow_size, length) for length in LENGTHS]
    totals = {}
    with torch.inference_mode():
        for model in (eager, patched):
            model(torch.randn(1, config.flow_size, 33))
        for when in ("new", "again"):
            taken = {"eager": 0.0, "patched": 0.0}
            for x in sentences:
                for name, model in (("eager", eager), ("patched", patched)):
                    runs = []
                    for _ in range(1 if when == "new" else 3):
                        start = time.perf_counter()
                        model(x)
                        runs.append(time.perf_counter() - start)
                    taken[name] += statistics.median(runs)
            totals[when] = taken
    where = machine()
    print(f"lengths: {', '.join(f'{key} {value}' for key, value in where.items())}; {len(LENGTHS)} lengths")
    for when, taken in totals.items():
        print(f"{when:<6} lengths: eager/patched {taken['eager'] / taken['patched']:.2f}x")
    for name in ("eager", "patched"):
        print(f"{name:<8} new/again {totals['new'][name] / totals['again'][name]:.2f}x")
    (RESULTS / "lengths.json").write_text(json.dumps({"machine": where, "seconds": totals}, indent=2) + "\n")
