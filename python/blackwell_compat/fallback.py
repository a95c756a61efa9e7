"""PyTorch on a card that the wheel has no kernels for: every op runs, on the CPU where nothing else can.

enable() puts a boxed kernel over every op registered for CUDA; disable() takes it away without a trace. Tensors stay on
the card: what an op reads comes to the host, what it writes goes back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from blackwell_compat import _C, bypasses, kernels
from blackwell_compat.lazy import set_lazy_upload
from blackwell_compat.printed import as_text

NOTICES = ("warn", "error", "silent")
_lock = threading.RLock()
_lacking: list[int] = []  # the cards that it was enabled for
NO_KERNEL = "no kernel image is available"
# What CUDA says of a kernel that it cannot load: none of these errors lasts
_NOT_LOADED = (
    NO_KERNEL,
    "device kernel image is invalid",
    "a PTX JIT compilation failed",
    "PTX JIT compiler library not found",
    "PTX JIT compilation was disabled",
    "the provided PTX was compiled with an unsupported toolchain",
    "invalid device function",
    "named symbol not found",
)
ALL_ON_CPU = (
    "The CPU computed everything here. A whole model does that faster without the way to the card and back: "
    "patch_model(model, mode='cpu')"
)


@dataclass(frozen=True)
class FallbackLine:
    """One op that ran on the CPU: calls, time, and copies and bytes from the card and to it."""

    op: str
    calls: int
    ms: float
    to_host: int
    to_host_bytes: int
    to_device: int
    to_device_bytes: int


@dataclass(frozen=True)
class FallbackReport:
    """What fell back since the start or reset_fallbacks(), the slowest op first; prints as a table."""

    lines: list[FallbackLine] = field(default_factory=list)
    advice: str = ""  # what would be faster, where that is known

    @property
    def totals(self) -> FallbackLine:
        lines = self.lines
        return FallbackLine(
            "all",
            sum(line.calls for line in lines),
            sum(line.ms for line in lines),
            sum(line.to_host for line in lines),
            sum(line.to_host_bytes for line in lines),
            sum(line.to_device for line in lines),
            sum(line.to_device_bytes for line in lines),
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what json.dumps takes."""
        return {"ops": [asdict(line) for line in self.lines], "totals": asdict(self.totals), "advice": self.advice}

    def rows(self) -> list[tuple[str, ...]]:
        def megabytes(count: int, size: int) -> str:
            return f"{size / 1e6:.2f} in {count}"

        return [
            (
                line.op,
                str(line.calls),
                f"{line.ms:.2f}",
                megabytes(line.to_host, line.to_host_bytes),
                megabytes(line.to_device, line.to_device_bytes),
            )
            for line in [*self.lines, self.totals]
        ]

    def __rich__(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(title="Ops that ran on the CPU", caption=self.advice or None)
        for column in ("op", "calls", "ms", "MB from the card", "MB to the card"):
            table.add_column(column, justify="left" if column == "op" else "right")
        for row in self.rows():
            table.add_row(*map(Text, row))
        return table

    def __str__(self) -> str:
        return as_text(self, "\n".join([*("  ".join(row) for row in self.rows()), self.advice]).rstrip())


def means_no_kernel(message: str) -> bool:
    """Whether an error says that the wheel has no kernel which this card and its driver could load."""
    return any(text in message for text in _NOT_LOADED)


def lacks_kernels(device: int) -> bool:
    """Whether PyTorch's own kernels fail on card `device` since they cannot be loaded; launches one to know."""
    try:
        with torch.cuda.device(device):
            return bool((torch.ones(2, device="cuda") * 3).sum().item() != 6)
    except RuntimeError as error:
        if means_no_kernel(str(error)):
            return True
        raise


def enable(device: int | str | torch.device | None = None, *, force: bool = False) -> None:
    """Lets every op run on cards that this torch has no kernels for, on the CPU where there is no other way.

    Call it once, early: the dispatcher is not safe against it while another thread runs an op. A second call does
    nothing.

    Args:
        device: the card that needs it; None: the current one. The fallback serves all cards that need it.
        force: serve `device` though PyTorch's kernels run on it, as to compare with them; until disable().

    Raises:
        RuntimeError: there is no CUDA device; or PyTorch's kernels run on all of them, and none is forced; or on some,
            with torch older than 2.13, which cannot tell cards apart: hide those with CUDA_VISIBLE_DEVICES; or it is
            enabled, and not for the card to force.

    Where some cards run PyTorch's kernels, they keep them. cuDNN and fused attention are off for all cards until
    disable(), whatever sets torch.backends.cudnn.enabled or chooses attention.

    BLACKWELL_COMPAT_FALLBACK: "warn" (default) warns once per op with its price, "silent" only counts, "error" raises.
    BLACKWELL_COMPAT_LAZY: "1" is set_lazy_upload(True), "0" (default) leaves it off.
    BLACKWELL_COMPAT_CARD_PACK_BYTES: what packed weights of convolutions may take of a card's memory in mode kernel, in
    bytes; a sixteenth of it unless set, 0 for none. They go with their weight, with disable(), and where less than an
    eighth of the memory is left.
    """
    with _lock:
        notice = os.environ.get("BLACKWELL_COMPAT_FALLBACK", "warn")
        if notice not in NOTICES:
            raise ValueError(f"BLACKWELL_COMPAT_FALLBACK must be one of {', '.join(NOTICES)}, got {notice!r}")
        lazy = os.environ.get("BLACKWELL_COMPAT_LAZY", "0")
        if lazy not in ("0", "1"):
            raise ValueError(f"BLACKWELL_COMPAT_LAZY must be 0 or 1, got {lazy!r}")
        card = torch.device("cuda" if device is None else device)
        _C.fallback_set_notice(notice)
        if _C.fallback_installed():
            if force and not serves(card):
                raise RuntimeError(f"enable: it does not serve {card}; call disable() before force=True")
            return
        if not torch.cuda.is_available():
            raise RuntimeError(
                "enable: torch finds no CUDA device; install a CUDA build of torch and a driver, or use the CPU"
            )
        if card.type != "cuda":
            raise ValueError(f"enable: device must be a CUDA device, got {device}")
        forced = [kernels.index_of(card)] if force else []
        lacking = [i for i in range(torch.cuda.device_count()) if i in forced or lacks_kernels(i)]
        working = [i for i in range(torch.cuda.device_count()) if i not in lacking]
        if not lacking:
            names = ", ".join(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in working)
            raise RuntimeError(f"enable: PyTorch's own kernels run on {names}; the fallback would only slow it down")
        bypasses.choose_composites()
        try:
            _C.fallback_install(working)
            _lacking[:] = lacking
        except BaseException:
            bypasses.leave()
            raise
        bypasses.watch(lacking)
        if lazy == "1":
            set_lazy_upload(True)


def disable() -> None:
    """Takes the fallback out of the dispatcher: afterwards its tables are as they were before enable().

    Raises:
        RuntimeError: another thread is inside an op on the card.
    """
    with _lock:
        if _C.fallback_installed():
            _C.fallback_uninstall()
            set_lazy_upload(False)
            bypasses.leave()
            _lacking.clear()


def is_enabled() -> bool:
    """Whether the fallback is in the dispatcher."""
    return bool(_C.fallback_installed())


def serves(device: torch.device) -> bool:
    """Whether the fallback is in the dispatcher because this card needs it."""
    if device.type != "cuda" or not _lacking:
        return False
    return (torch.cuda.current_device() if device.index is None else device.index) in _lacking


@contextmanager
def enabled(device: int | str | torch.device | None = None, *, force: bool = False) -> Iterator[None]:
    """The fallback for a block, as enable() has it; stays where it was enabled before."""
    before = is_enabled()
    enable(device, force=force)
    try:
        yield
    finally:
        if not before:
            disable()


def coverage(target: nn.Module | Iterable[str] | None = None, *args: Any, **kwargs: Any) -> dict[str, str]:
    """Op -> what serves it: "kernel" (a CUDA kernel of this package, where mode kernel chose it), "fallback" (the CPU),
    "own" (copies by the driver), "kept" (PyTorch's, needs no kernel), "composite" (made of other ops).

    Args:
        target: None: every op; names ("aten::add.Tensor"): those; a model: those that it calls, in a forward pass with
            the other arguments.

    An op with a kernel still goes to the CPU where that does not take its dtype or layout; `fallbacks()` counts that.
    """
    served: dict[str, str] = dict(_C.fallback_coverage())
    if not kernels.are_chosen():
        served = {op: "fallback" if by == "kernel" else by for op, by in served.items()}
    if target is None:
        return served
    names = _ops_of(target, args, kwargs) if isinstance(target, nn.Module) else list(target)
    return {name: served.get(name, "composite") for name in names}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the names of ops as they reach the kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func._schema.name + ("." + func._schema.overload_name if func._schema.overload_name else "")] = None
        return func(*args, **(kwargs or {}))


def _ops_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    with torch.no_grad(), _Recorder() as recorder:
        model(*args, **kwargs)
    return list(recorder.names)


def fallbacks() -> FallbackReport:
    """What ran on the CPU since the start or reset_fallbacks()."""
    lines = [
        FallbackLine(op, calls, nanoseconds / 1e6, *moved)
        for op, (calls, nanoseconds, *moved) in _C.fallback_counts().items()
    ]
    return FallbackReport(sorted(lines, key=lambda line: -line.ms), ALL_ON_CPU if _nothing_on_card(lines) else "")


def _nothing_on_card(lines: list[FallbackLine]) -> bool:
    """Whether the card computes nothing, so that a model would do better without it."""
    return bool(lines) and is_enabled() and "kernel" not in coverage().values()


def reset_fallbacks() -> None:
    """Sets the counters of fallbacks() to zero."""
    _C.fallback_reset_counts()


def invalidate(tensor: torch.Tensor) -> None:
    """Tells that something outside of PyTorch's ops wrote to `tensor`, such as a kernel that a C++ extension launched.

    It is known that Triton, replayed CUDA graphs and collectives write, and of a weight whose address Python handed out
    (data_ptr, DLPack, __cuda_array_interface__) no packed one is kept.
    """
    _C.fallback_invalidate(tensor)


def set_host_cache(limit: int, pinned: int | None = None) -> None:
    """How much host memory the fallback may take to save copies over the bus.

    Args:
        limit: bytes of host copies of device tensors; a quarter of the memory unless set, 0 for none.
        pinned: bytes of page-locked memory, from which results go to the card while the CPU goes on; an eighth of the
            memory unless set, 0 for none. Beyond it, or where the driver refuses, pageable memory is taken.
    """
    for name, value in (("limit", limit), ("pinned", pinned)):
        if value is not None and value < 0:
            raise ValueError(f"set_host_cache: {name} must be >= 0 bytes, got {value}")
    _C.fallback_set_host_limit(limit)
    if pinned is not None:
        _C.fallback_set_pinned_limit(pinned)
