"""compat_conv1d against F.conv1d: the Conv1d layers of Kokoro, weighted by calls, float32.

Twice: with channels-last-1d input, and contiguous as F.conv1d has it.

Another model of the workloads: bench_conv1d.py MODEL.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from blackwell_compat import compat_conv1d, to_channels_last_1d
from common import Comparison
from workloads import layers

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

if __name__ == "__main__":
    model = sys.argv[1] if len(sys.argv) > 1 else "kokoro"
    for layout in ("channels_last_1d", "contiguous"):
        table = Comparison(f"conv1d_{model}_{layout}")
        for layer in layers(model, "conv1d"):
            generator = torch.Generator().manual_seed(0)
            x = torch.randn(layer["batch"], layer["cin"], layer["length"], generator=generator)
            weight = torch.randn(layer["cout"], layer["cin"] // layer["groups"], layer["k"], generator=generator)
            bias = torch.randn(layer["cout"], generator=generator) if layer["bias"] else None
            args = weight, bias, layer["stride"], layer["padding"], layer["dilation"], layer["groups"]
            ours_x = to_channels_last_1d(x) if layout == "channels_last_1d" else x
            want = reference.in_float64(F.conv1d, x, *args)
            reference.assert_as_accurate(compat_conv1d(ours_x, *args), F.conv1d(x, *args), want)
            shape = f"{layer['cin']}->{layer['cout']} k{layer['k']}"
            for key, default in (("stride", 1), ("dilation", 1), ("groups", 1), ("batch", 1)):
                shape += f" {key} {layer[key]}" if layer[key] != default else ""
            with torch.inference_mode():
                table.compare(
                    f"{shape}, {layer['length']}",
                    lambda x=ours_x, a=args: compat_conv1d(x, *a),
                    lambda x=x, a=args: F.conv1d(x, *a),
                    rounds=9,
                    weight=layer["calls"],
                )
        table.finish()
