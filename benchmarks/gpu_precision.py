"""VITS and GPT-2 under the bf16 policy against float32, by PyTorch's kernels on a card: speed, and the error it costs.

python benchmarks/gpu_precision.py    # make gpu
"""

import math
import statistics

import blackwell_compat as bc
import torch
from blackwell_compat.precision.suggest import relative
from card_timing import CARD, OnCard, whole_calls
from real_models import gpt2_decode, vits

ROUNDS = 15

if __name__ == "__main__":
    table = OnCard("gpu_precision")
    with torch.inference_mode():
        for make in (vits, gpt2_decode):
            jobs = []
            for _ in range(2):
                torch.manual_seed(0)
                jobs.append(make(CARD, False))
                jobs[-1].model.eval().to(CARD)
            plain, patched = jobs
            bc.patch_model(patched.model, policy=bc.Policy("bf16"))
            decibels = -20 * math.log10(relative(patched.run(), plain.run()))
            ms = {
                name: statistics.median(whole_calls(run, ROUNDS))
                for name, run in (("torch", plain.run), ("ours", patched.run), ("again", plain.run))
            }
            ratio, noise = ms["torch"] / ms["ours"], ms["torch"] / ms["again"]
            row = {"shape": make.__name__, "ms": ms, "ratio": ratio, "noise": noise, "weight": 1, "dB": decibels}
            table.rows.append(row)
            print(f"{make.__name__:<16} float32/bf16 {ratio:5.2f}x  float32/float32 {noise:5.2f}x  {decibels:5.1f} dB")
    table.finish()
