"""Models, elementwise ops, norms and attention on a card that PyTorch has kernels for: mode kernel against native.

python benchmarks/gpu_compat.py    # make gpu

Each side runs in a process of its own, native before and after: ours puts the fallback over PyTorch's kernels, though
they work, and patch_model takes this package's. Models whose packages are not installed are left out, by name.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import blackwell_compat as bc
import torch
from card_timing import CARD, OnCard, milliseconds, whole_calls
from real_models import MODELS, Job
from torch.nn import functional as F

NATIVE, OURS = "--native", "--ours"  # measure in this process, print JSON
MEGABYTES = 64  # of an operand
COUNTED = {"aten::copy_", "aten::_local_scalar_dense"}  # between the card and the host, where a model asks for it


class Case(NamedTuple):
    name: str
    run: Callable[[], torch.Tensor]
    moved: float = 0.0  # bytes
    flops: float = 0.0
    calls: int = 0  # where the host is what is timed: how many are in a run


def moving(small: bool) -> Iterator[Case]:
    """What memory bounds: elementwise ops and norms."""
    for dtype in (torch.float32, torch.bfloat16):
        width = 64 if small else 4096
        rows = 4 if small else (MEGABYTES << 20) // (width * dtype.itemsize)
        x, y = (torch.randn(rows, width).to(dtype).to(CARD) for _ in range(2))
        scale, shift = (torch.randn(width).to(dtype).to(CARD) for _ in range(2))
        image = x.view(1, 4, -1, width)
        ops: dict[str, tuple[int, Callable[[], torch.Tensor]]] = {
            "add": (3, lambda x=x, y=y: x + y),
            "mul by a number": (2, lambda x=x: x * 0.5),
            "silu": (2, lambda x=x: F.silu(x)),
            "gelu": (2, lambda x=x: F.gelu(x)),
            "to float16": (2, lambda x=x: x.half()),
            "transposed": (2, lambda x=x: x.t().contiguous()),
            "layer_norm": (2, lambda x=x, w=scale, b=shift: F.layer_norm(x, w.shape, w, b)),
            "softmax": (2, lambda x=x: x.softmax(-1)),
            "group_norm": (2, lambda x=image: F.group_norm(x, 4)),
            "sum of rows": (1, lambda x=x: x.sum(-1)),
        }
        for name, (operands, run) in ops.items():
            yield Case(f"{name}, {str(dtype).removeprefix('torch.')}", run, float(operands * x.nbytes))


def attention(small: bool) -> Iterator[Case]:
    sizes = {"Llama prefill": (1, 32, 2048, 128, True), "SDXL": (2, 10, 4096, 64, False)}
    for name, (batch, heads, length, width, causal) in sizes.items():
        length = 40 if small else length
        q, k, v = (torch.randn(batch, heads, length, width).bfloat16().to(CARD) for _ in range(3))
        yield Case(
            f"attention, {name}, bfloat16",
            lambda q=q, k=k, v=v, c=causal: F.scaled_dot_product_attention(q, k, v, is_causal=c),
            flops=4.0 * batch * heads * length**2 * width / (2 if causal else 1),
        )


def launching(small: bool) -> Iterator[Case]:
    """What the host bounds: calls in a row that are next to nothing for the card."""
    calls = 3 if small else 1000
    x, weight, scale = (torch.randn(size).to(CARD) for size in ((1, 64), (64, 64), (64,)))
    ops: dict[str, Callable[[], torch.Tensor]] = {
        "add": lambda: x + x,
        "linear": lambda: F.linear(x, weight),
        "layer_norm": lambda: F.layer_norm(x, scale.shape, scale),
    }
    for name, call in ops.items():
        yield Case(f"{calls} calls, {name}", lambda call=call: [call() for _ in range(calls)][-1], calls=calls)


def measure(
    models: Iterable[Callable[[torch.device, bool], Job]] = MODELS, small: bool = False
) -> dict[str, dict[str, Any]]:
    """By case: milliseconds, how large the values of the result are, what ran on the CPU."""
    found: dict[str, dict[str, Any]] = {}
    anchor = torch.nn.Linear(1, 1).to(CARD)
    mode = bc.patch_model(anchor).mode

    def keep(name: str, result: torch.Tensor, taken: list[float], **rates: float) -> None:
        fell = {line.op for line in bc.fallbacks().lines} - COUNTED
        size = result.float().cpu().abs().mean().item()
        found[name] = {"mode": mode, "ms": statistics.median(taken), "size": size, "fell back": sorted(fell), **rates}

    with torch.inference_mode():
        for case in (*moving(small), *attention(small), *launching(small)):
            bc.reset_fallbacks()
            result = case.run()
            if case.calls:
                keep(case.name, result, whole_calls(case.run, 1 if small else 15), calls=case.calls)
                continue
            taken = [milliseconds(case.run, cold=not small) for _ in range(1 if small else 35)]
            keep(case.name, result, taken[5:] or taken, moved=case.moved, flops=case.flops)
        for make in models:
            torch.manual_seed(0)
            try:
                model, run = make(CARD, small)
            except ImportError as error:
                print(f"{make.__name__}: left out, {error}", file=sys.stderr)
                continue
            model.eval().to(CARD)
            if mode == "kernel":
                bc.patch_model(model)
            bc.reset_fallbacks()
            result = run()
            keep(make.__name__, result, whole_calls(run, 1 if small else 15))
            if mode == "kernel":
                bc.unpatch_model(model)
    return found


def side(name: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run([sys.executable, __file__, name], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    modes, wanted = {case["mode"] for case in found.values()}, "kernel" if name == OURS else "native"
    if modes != {wanted}:
        sys.exit(f"gpu_compat: {name} gives the modes {modes}, not {wanted}")
    return found


def main() -> None:
    table = OnCard("gpu_compat")
    native, ours, again = side(NATIVE), side(OURS), side(NATIVE)
    for name, case in ours.items():
        ms = {"ours": case["ms"], "torch": native[name]["ms"], "again": again[name]["ms"]}
        row = {"shape": name, "ms": ms, "ratio": ms["torch"] / ms["ours"], "noise": ms["torch"] / ms["again"]}
        row |= {"weight": 1, "fell back": case["fell back"]}
        row["difference"] = abs(case["size"] - native[name]["size"]) / max(native[name]["size"], 1e-30)
        reached = ""
        if case.get("moved"):
            row["GB/s"] = case["moved"] / ms["ours"] / 1e6
            row["of copy rate"] = row["GB/s"] / table.copy_rate
            reached = f"{row['of copy rate']:5.2f} of a copy"
        if case.get("flops"):
            row["TFLOP/s"] = case["flops"] / ms["ours"] / 1e9
            reached = f"{row['TFLOP/s']:5.0f} TFLOP/s"
        if case.get("calls"):
            row["us a call"] = {side: 1e3 * ms[side] / case["calls"] for side in ("ours", "torch")}
            reached = "us a call: {ours:.2f}, torch {torch:.2f}".format(**row["us a call"])
        table.rows.append(row)
        times = f"ours {ms['ours']:9.3f} ms  torch/ours {row['ratio']:5.2f}x  torch/torch {row['noise']:5.2f}x"
        print(f"{name:<36} {times}  {reached}")
    table.finish()


if __name__ == "__main__":
    if OURS in sys.argv:
        bc.enable(CARD, force=True)
    if {NATIVE, OURS} & set(sys.argv):
        print(json.dumps(measure()))
    else:
        main()
