"""What patch_model did, layer by layer: prints as a table, converts to a dict."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from blackwell_compat.printed import as_text

COLUMNS = ("modules", "first", "class", "provider", "why", "MB")


@dataclass(frozen=True)
class ModuleLine:
    """One module that has weights."""

    name: str
    cls: str
    provider: str
    reason: str
    bytes: int  # of the module's own parameters that no module above has
    patched: bool
    freed: bool = False  # the weight exists in packed form only


@dataclass(frozen=True)
class FunctionalLine:
    """A module whose own code calls an op of ours as a function."""

    name: str
    cls: str
    calls: tuple[str, ...]
    provider: str = "torch"
    reason: str = "functional call, left to the dispatcher"


@dataclass
class PatchReport:
    """What runs where, and why.

    Attributes:
        mode, requested, why: the mode chosen, the one asked for, and the reason for the choice.
        device: where the parameters are; torch, onednn: versions (onednn is None in a build without it).
        dry_run: nothing was changed.
        modules: one line for each module with weights, patched or left alone.
        functional: modules that call linear, conv1d, conv_transpose1d, stft or istft as functions.
        channels_last: modules that run channels-last from first to last convolution.
        precision: what a policy comes to on the device, and why; "" without one.
        islands: modules that stay in float32 under it, with the reason.
        moved_bytes: parameters and buffers moved to the CPU.
        freed_bytes: weights that exist in packed form only, as free_original makes them.
    """

    mode: str
    requested: str
    why: str
    device: str
    torch: str
    onednn: str | None
    dry_run: bool = False
    modules: list[ModuleLine] = field(default_factory=list)
    functional: list[FunctionalLine] = field(default_factory=list)
    channels_last: list[str] = field(default_factory=list)
    precision: str = ""
    islands: dict[str, str] = field(default_factory=dict)
    moved_bytes: int = 0
    freed_bytes: int = 0

    def add_reasons(self, reasons: dict[str, str]) -> None:
        """Adds to what is said of modules, by their names."""
        self.modules = [
            replace(line, reason=f"{line.reason}; {reasons[line.name]}") if line.name in reasons else line
            for line in self.modules
        ]

    @property
    def patched(self) -> list[str]:
        """Names of the modules that run ours."""
        return [line.name for line in self.modules if line.patched]

    @property
    def freed(self) -> list[str]:
        """Names of the modules whose weight exists in packed form only."""
        return [line.name for line in self.modules if line.freed]

    @property
    def left_alone(self) -> dict[str, str]:
        """Names of the modules with weights that were left alone, with the reason."""
        return {line.name: line.reason for line in self.modules if not line.patched}

    @property
    def counts(self) -> dict[str, int]:
        return {
            "patched": sum(line.patched for line in self.modules),
            "left_alone": sum(not line.patched for line in self.modules),
            "functional": len(self.functional),
            "channels_last": len(self.channels_last),
            "patched_bytes": sum(line.bytes for line in self.modules if line.patched),
            "bytes": sum(line.bytes for line in self.modules),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what json.dumps takes."""
        functional = [{**asdict(line), "calls": list(line.calls)} for line in self.functional]
        return {**asdict(self), "functional": functional, "counts": self.counts}

    def summary(self) -> str:
        counts = self.counts
        lines = [
            f"mode {self.mode}: {self.why}",
            f"torch {self.torch}, oneDNN {self.onednn or 'not in this build'}, parameters on {self.device}",
            f"{counts['patched']} modules run ours, with {counts['patched_bytes'] / 1e6:.1f} of"
            f" {counts['bytes'] / 1e6:.1f} MB of parameters; {counts['left_alone']} with weights are left alone,"
            f" {counts['functional']} have functional calls",
        ]
        lines += [f"{name or '(root)'}: channels-last from first to last convolution" for name in self.channels_last]
        if self.precision:
            lines.append(f"computes in {self.precision}")
            lines += [f"{name} stays in float32: {reason}" for name, reason in self.islands.items()]
        if self.moved_bytes:
            lines.append(f"{self.moved_bytes / 1e6:.1f} MB moved to the CPU")
        if self.freed_bytes:
            lines.append(
                f"{len(self.freed)} weights, {self.freed_bytes / 1e6:.1f} MB, exist in packed form only: state_dict()"
                " has them, named_parameters() does not list them, and reading `weight` gives a copy"
            )
        if self.dry_run:
            lines.append("dry run: nothing was changed")
        return "\n".join(lines)

    def rows(self) -> list[tuple[str, ...]]:
        """Lines that say the same, together: how many, the first name, class, provider, reason, MB."""
        groups: dict[tuple[str, str, str], list[ModuleLine]] = {}
        for line in self.modules:
            groups.setdefault((line.cls, line.provider, line.reason), []).append(line)
        rows: list[tuple[str, ...]] = [
            (str(len(same)), same[0].name or "(root)", *key, f"{sum(line.bytes for line in same) / 1e6:.2f}")
            for key, same in groups.items()
        ]
        calls = Counter((f.cls, f.provider, f"{', '.join(f.calls)}: {f.reason}") for f in self.functional)
        first: dict[str, str] = {}
        for f in self.functional:
            first.setdefault(f.cls, f.name or "(root)")
        return rows + [(str(count), first[key[0]], *key, "") for key, count in calls.items()]

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title="blackwell_compat.patch_model")
        for column in COLUMNS:
            table.add_column(column, justify="right" if column in ("modules", "MB") else "left", overflow="fold")
        for row in self.rows():
            table.add_row(*map(Text, row))
        return Group(table, Text(self.summary()))

    def __str__(self) -> str:
        return as_text(self, "\n".join(["  ".join(COLUMNS), *("  ".join(row) for row in self.rows()), self.summary()]))
