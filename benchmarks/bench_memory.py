"""Peak memory of a model that is built, patched and run: plain, patched, and patched with free_original.

Each in a process of its own, beyond what the process had after its imports: VmHWM of /proc/self/status.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

NOISE = 16 << 20  # bytes: heap that malloc keeps, and code that is paged in at the first call
ROUNDS = 3
WAYS = {"plain": None, "patched": {}, "free_original": {"free_original": True}}


def status(key: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def build(name: str) -> Any:
    """About 400 MB of weights, and an input."""
    import torch
    from torch import nn

    if name == "bert":  # bert-base's encoder with 14 layers and its pooler; the embeddings stay small
        from transformers import BertConfig, BertModel

        config = BertConfig(vocab_size=1000, num_hidden_layers=14)
        return BertModel(config).eval(), torch.arange(64).view(1, 64)
    # The convolutions of a TTS decoder (xtts_v2.json: 512 and 1024 channels), then linears as in gpt2.json
    convolutions = [nn.Conv1d(1024, 1024, 3, padding=1) for _ in range(16)]
    convolutions += [nn.Conv1d(512, 512, 7, padding=3 * d, dilation=d) for d in (1, 3, 5)]
    linears = [nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 1024)) for _ in range(5)]

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.ModuleList(convolutions[:16]), nn.ModuleList(convolutions[16:])
            self.linears = nn.Sequential(*linears)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.wide:
                x = x + layer(x)
            a, b = x.chunk(2, 1)
            for layer in self.narrow:
                a = a + layer(b)
            return self.linears(torch.cat((a, b), 1).transpose(1, 2))  # type: ignore[no-any-return]

    return Decoder().eval(), torch.randn(1, 1024, 64)


def measure(name: str, way: str) -> dict[str, Any]:
    """What one process does."""
    import blackwell_compat as bc
    import torch
    import transformers  # noqa: F401  (counts with the imports)

    if name == "bert":
        from transformers import BertConfig, BertModel

        BertModel(BertConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))  # its imports
    torch.manual_seed(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = status("VmRSS")
    model, x = build(name)
    weights = sum(p.nbytes for p in model.parameters())
    options = WAYS[way]
    if options is not None:
        bc.patch_model(model, **options)
    with torch.no_grad():
        for _ in range(3):
            model(x)
    peak = status("VmHWM") - before
    return {"peak": peak, "weights": weights, "packed": bc.stats()["pack_bytes"], "end": status("VmRSS") - before}


def main() -> None:
    from common import RESULTS, machine

    info = machine()
    print(f"memory: {', '.join(f'{key} {value}' for key, value in info.items())}; {ROUNDS} processes each, the largest")
    rows, good = [], True
    for name in ("bert", "decoder"):
        found: dict[str, dict[str, int]] = {way: {} for way in WAYS}
        for _ in range(ROUNDS):
            for way, most in found.items():
                command = [sys.executable, __file__, name, way]
                got = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                most.update({key: max(value, most.get(key, 0)) for key, value in got.items()})
        plain, patched, freed = (found[way]["peak"] for way in WAYS)
        packed = found["patched"]["packed"]
        ratio, allowed = freed / plain, plain + packed + NOISE
        weights = found["plain"]["weights"]
        print(f"{name}: weights {weights / 1e6:.0f} MB, packed {packed / 1e6:.0f} MB")
        print(f"  plain          {plain / 1e6:.0f} MB")
        bar = f"bar: plain + packed + {NOISE >> 20} MiB = {allowed / 1e6:.0f} MB"
        print(f"  patched        {patched / 1e6:.0f} MB = {patched / plain:.3f}x ({bar})")
        print(f"  free_original  {freed / 1e6:.0f} MB = {ratio:.3f}x (bar: 1.05x)")
        rows.append(
            {
                "model": name,
                "bytes": found,
                "patched": patched / plain,
                "free_original": ratio,
                "allowed_patched": allowed,
            }
        )
        good = good and patched <= allowed and ratio <= 1.05
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": info, "noise_bytes": NOISE, "rows": rows}, indent=2)
    (RESULTS / "memory.json").write_text(text + "\n")
    if not good:
        sys.exit("a bar was missed")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
