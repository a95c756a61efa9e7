"""What the examples share: their options, the two models that they compare, and how they time them."""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import blackwell_compat as bc
import torch
from rich import print
from rich.progress import track
from rich.table import Table

Model = TypeVar("Model", bound=torch.nn.Module)


def options(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mode", default="auto", help="of patch_model: auto, native, kernel, hybrid or cpu")
    parser.add_argument("--model", help="a folder with real weights, or a name on the model hub")
    parser.add_argument("--full", action="store_true", help="the published size, if there is a smaller one")
    parser.add_argument("--rounds", type=int, default=3, help="of timing, after two to warm up")
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    return parser


def before_and_after(model: Model, arguments: argparse.Namespace) -> tuple[Model, Model]:
    """`model` as PyTorch runs it, and a patched copy on the device asked for.

    The first is on that device, too, if the mode is native. Else it is on the CPU: PyTorch's kernels do not run on the
    card, or are out of the way there.
    """
    if arguments.model is None:
        print("Random weights, so what comes out means nothing; --model takes real ones")
    after = copy.deepcopy(model).to(arguments.device)  # only to have both at once; patch_model works in place
    report = bc.patch_model(after, arguments.mode)
    print(report)
    return model.to(arguments.device if report.mode == "native" else "cpu"), after


def device_of(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def exact() -> AbstractContextManager[None]:
    """No TF32 in convolutions, where PyTorch takes it unless told otherwise."""
    cudnn = torch.backends.cudnn
    flags: AbstractContextManager[None] = cudnn.flags(enabled=cudnn.enabled, allow_tf32=False)
    return flags


def warm_up(model: torch.nn.Module, *inputs: object) -> None:
    """On a card: compiles what a forward pass needs, several kernels at a time; what falls back counts from here."""
    if device_of(model).type == "cuda":
        print(f"{bc.warmup(model, *inputs)} kernels made ready")
        bc.reset_fallbacks()


def check(want: torch.Tensor, got: torch.Tensor, share: float = 1.0) -> None:
    """Prints the largest difference, in units of the largest value; in `share` of the values it has to be rounding."""
    differences = ((want - got).abs().flatten() / want.abs().max()).sort().values
    most = differences[round(share * (len(differences) - 1))].item()
    print(f"largest difference: {differences[-1]:.1e} of the largest value")
    if share < 1:
        print(f"in {share:.0%} of the values at most {most:.1e}")
    if not most < 1e-3:
        raise SystemExit("patching changed the result")


def show_speed(
    before: Model, after: Model, run: Callable[[Model], object], rounds: int, amount: float, unit: str
) -> None:
    """A table of both; a run makes `amount` of `unit`, and returns CPU tensors, so that it waits for a card."""
    eager, ours, ratio = speed_ratio(lambda: run(before), lambda: run(after), rounds, "timing")
    table = Table("", "on")
    for title in ("time", f"{unit} a second", "ratio"):
        table.add_column(title, justify="right")
    table.add_row("unpatched", str(device_of(before)), f"{eager:.3f} s", f"{amount / eager:.1f}", "1.00")
    table.add_row("patched", str(device_of(after)), f"{ours:.3f} s", f"{amount / ours:.1f}", f"{ratio:.2f}")
    print(table)
    if bc.is_enabled():
        print(bc.fallbacks())


def speed_ratio(
    before: Callable[[], object], after: Callable[[], object], rounds: int, title: str
) -> tuple[float, float, float]:
    """Median seconds of `before` and of `after`, and the first divided by the second.

    Both run in each of the `rounds`, so that a slow spell of the machine hits both.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for r in track(range(rounds + 2), description=title, transient=True):
        for run, seconds in zip((before, after), taken, strict=True):
            start = time.perf_counter()
            run()
            if r >= 2:  # two to warm up
                seconds.append(time.perf_counter() - start)
    slow, fast = (statistics.median(seconds) for seconds in taken)
    return slow, fast, slow / fast
