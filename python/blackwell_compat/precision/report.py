"""How far each module of a model is from float32 under a policy."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from blackwell_compat.patching.rules import user_class
from blackwell_compat.precision import islands
from blackwell_compat.precision.policy import Policy, as_policy
from blackwell_compat.printed import as_text

Inputs = torch.Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


@dataclass(frozen=True)
class ErrorLine:
    """A module's output under the policy against float32, over all its calls."""

    name: str
    cls: str
    dtype: str  # of the output
    max: float  # of |difference|
    mean: float
    decibels: float  # power of the float32 output over power of the difference; inf where they are equal
    island: str  # why the module stays in float32, "" where it does not
    note: str = ""


@dataclass(frozen=True)
class PrecisionReport:
    """Errors by module in the order of execution, the model itself last; prints as a table."""

    policy: str
    lines: list[ErrorLine]

    @property
    def whole(self) -> ErrorLine:
        """The line of the model itself."""
        return self.lines[-1]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what json.dumps takes but for infinities."""
        return {"policy": self.policy, "modules": [asdict(line) for line in self.lines]}

    def __rich__(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"Error against float32 under policy {self.policy}")
        for column in ("module", "class", "output", "max", "mean", "dB", ""):
            table.add_column(column, justify="right" if column in ("max", "mean", "dB") else "left")
        for row in self.rows():
            table.add_row(*map(Text, row))
        return table

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (
                line.name or "(root)",
                line.cls,
                line.dtype,
                f"{line.max:.2e}",
                f"{line.mean:.2e}",
                f"{line.decibels:.1f}",
                line.note or (f"float32: {line.island}" if line.island else ""),
            )
            for line in self.lines
        ]

    def __str__(self) -> str:
        return as_text(self, "\n".join("  ".join(row) for row in self.rows()), 120)

    def plot(self, path: str | Path) -> None:
        """Draws the decibels of all modules, in the order of execution, to a file (PNG, SVG, PDF). Needs matplotlib."""
        from blackwell_compat.precision.plot import draw

        draw(self, Path(path))


class _Outputs:
    """Forward hooks on every module that hand each floating-point output on."""

    def __init__(self, model: nn.Module, take: Callable[[str, list[torch.Tensor]], None]) -> None:
        self.handles = [
            module.register_forward_hook(lambda m, args, output, name=name: take(name, _values(output)))
            for name, module in model.named_modules()
        ]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()


def _values(output: Any) -> list[torch.Tensor]:
    tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor)]
    return [t.detach() for t in tensors if t.is_floating_point() or t.is_complex()]


def run(model: nn.Module, inputs: Inputs) -> Any:
    """One call with the random numbers of seed 0, without gradients."""
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(0)
        if isinstance(inputs, Mapping):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


@contextlib.contextmanager
def under(model: nn.Module, policy: Policy) -> Iterator[dict[str, str]]:
    """The model by a policy inside the block, with the names of its islands; by the one it had afterwards."""
    before = islands.installed(model)
    try:
        yield islands.install(model, policy)
    finally:
        islands.remove(model)
        if before is not None:
            islands.install(model, before)


def precision_report(model: nn.Module, inputs: Inputs, policy: Policy | str = "bf16") -> PrecisionReport:
    """Runs a model in float32 and by a policy and compares what each module returns.

    Args:
        model: on any device, with float32 parameters; it is as before afterwards. Put it in eval().
        inputs: of one call: a tensor, a tuple of arguments or a dict of named ones.
        policy: "bf16", "fp16" or a Policy. Where the device is slower in its dtype than in float32 it computes in that
            dtype all the same.
    Returns:
        PrecisionReport. The float32 outputs of all modules are in host memory meanwhile.
    Raises:
        TypeError: `model` is no nn.Module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"precision_report: model must be a torch.nn.Module, got {type(model).__name__}")
    policy = replace(as_policy(policy), anyway=True)
    want: dict[str, list[torch.Tensor]] = {}
    with under(model, Policy("fp32", default_islands=False)):
        keep = _Outputs(model, lambda name, values: want.setdefault(name, []).extend(_wide(t) for t in values))
        with keep:
            run(model, inputs)
    errors: dict[str, _Error] = {}  # in the order in which modules return
    with under(model, policy) as found:

        def compare(name: str, values: list[torch.Tensor]) -> None:
            error = errors.setdefault(name, _Error())
            for value in values:
                error.add(value, want[name][error.count] if error.count < len(want.get(name, ())) else None)

        with _Outputs(model, compare):
            run(model, inputs)
    modules = dict(model.named_modules())
    root = errors.pop("", _Error())
    lines = [error.line(name, modules[name], found.get(name, "")) for name, error in errors.items()]
    return PrecisionReport(policy.dtype, [*lines, root.line("", model, "")])


def _wide(t: torch.Tensor) -> torch.Tensor:
    """A copy: code may go on to write to its outputs in place."""
    return t.to("cpu", torch.complex64 if t.is_complex() else torch.float32, copy=True)


class _Error:
    """Adds up over tensors."""

    def __init__(self) -> None:
        self.count = self.elements = 0
        self.max = self.sum = self.power = self.reference = 0.0
        self.dtypes: dict[str, None] = {}
        self.note = ""

    def add(self, got: torch.Tensor, want: torch.Tensor | None) -> None:
        self.count += 1
        self.dtypes[str(got.dtype).removeprefix("torch.")] = None
        if want is None or want.shape != got.shape:
            there = "nothing" if want is None else str(tuple(want.shape))
            self.note = f"float32 gave {there} where this is {tuple(got.shape)}"
            return
        difference = (_wide(got) - want).abs().double()
        difference = torch.where(want.isnan() & _wide(got).isnan(), 0, difference)  # the same in both
        if difference.numel() == 0:
            return
        self.elements += difference.numel()
        self.max = max(self.max, difference.max().item())
        self.sum += difference.sum().item()
        self.power += difference.square().sum().item()
        self.reference += want.abs().double().nan_to_num(0, 0, 0).square().sum().item()

    def line(self, name: str, module: nn.Module, island: str) -> ErrorLine:
        if self.note:
            decibels = math.nan
        elif self.power == 0:
            decibels = math.inf
        else:
            decibels = 10 * math.log10(self.reference / self.power) if self.reference else -math.inf
        mean = self.sum / self.elements if self.elements else 0.0
        dtype = ", ".join(self.dtypes)
        return ErrorLine(name, user_class(module).__name__, dtype, self.max, mean, decibels, island, self.note)
