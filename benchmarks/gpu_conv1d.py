"""compat_conv1d and compat_conv_transpose1d by this package's kernels against cuDNN on a card that PyTorch has kernels
for too: the layers of the speech models, weighted by calls; float32 without TF32, and bfloat16.

python benchmarks/gpu_conv1d.py    # make gpu
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from blackwell_compat import compat_conv1d, compat_conv_transpose1d
from card_timing import CARD, OnCard, need_kernels
from workloads import layers

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

MODELS = ("kokoro", "vits", "xtts_v2", "chatterbox")
KINDS = {"conv1d": (compat_conv1d, F.conv1d), "conv_transpose1d": (compat_conv_transpose1d, F.conv_transpose1d)}


def compare(table: OnCard, kind: str, layer: dict, dtype: torch.dtype) -> None:
    ours, theirs = KINDS[kind]
    transposed = kind == "conv_transpose1d"
    channels = (layer["cin"], layer["cout"]) if transposed else (layer["cout"], layer["cin"])
    x = torch.randn(layer["batch"], layer["cin"], layer["length"], device=CARD).to(dtype)
    weight = torch.randn(channels[0], channels[1] // layer["groups"], layer["k"], device=CARD).to(dtype)
    bias = torch.randn(layer["cout"], device=CARD).to(dtype) if layer["bias"] else None
    middle = ("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")
    args = (weight, bias, layer["stride"], layer["padding"], *(layer[key] for key in middle))
    got, peer = ours(x, *args), theirs(x, *args)
    reference.assert_as_accurate(got, peer, reference.in_float64(theirs, x, *args))
    positions = x.shape[-1] if transposed else got.shape[-1]  # that meet every tap
    flops = (
        2.0
        * layer["batch"]
        * positions
        * weight.numel()
        * (layer["cin"] if transposed else layer["cout"])
        / channels[0]
    )
    moved = float(x.element_size() * (x.numel() + weight.numel() + got.numel()))
    shape = f"{str(dtype).removeprefix('torch.')} {layer['cin']}->{layer['cout']} k{layer['k']} s{layer['stride']}"
    table.products(
        f"{shape} d{layer['dilation']} g{layer['groups']}, {layer['length']}",
        lambda i: ours(x, *args),
        lambda i: theirs(x, *args),
        1,
        flops,
        moved,
        layer["calls"],
    )


if __name__ == "__main__":
    need_kernels()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode():
        for kind in KINDS:
            for model in MODELS:
                for dtype in (torch.float32, torch.bfloat16):
                    table = OnCard(f"gpu_{kind}_{model}_{str(dtype).removeprefix('torch.')}")
                    for layer in layers(model, kind):
                        compare(table, kind, layer, dtype)
                    table.finish()
