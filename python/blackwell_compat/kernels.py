"""This package's CUDA kernels on a card: whether they work there, and compiling them before they are needed."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from blackwell_compat import _C, compilers
from blackwell_compat.doctor import runs_on

log = logging.getLogger("blackwell_compat")
_lock, _warming = threading.RLock(), threading.Lock()
_examined: dict[int, str | None] = {}  # by the index of a card: why its kernels cannot be had, None where they work
_chosen: set[int] = set()


def index_of(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def has_wheel_kernels(device: torch.device) -> bool:
    """Whether the wheel's list has machine code for a card."""
    machine_code = [arch for arch in torch.cuda.get_arch_list() if arch.startswith("sm_")]
    return runs_on(machine_code, torch.cuda.get_device_capability(device))


def examine(device: torch.device) -> str | None:
    """Compiles some kernels for a card and compares what they compute with the CPU; asked once for each card.

    Returns:
        why they cannot be used, or None.
    """
    index = index_of(device)
    with _lock:
        if index not in _examined:
            _examined[index] = _self_test(index)
        return _examined[index]


def forget() -> None:
    """Lets examine() ask every card again, as after a compiler was installed."""
    with _lock:
        _examined.clear()


def _self_test(index: int) -> str | None:
    compilers.find()
    chosen = index in _chosen
    _C.kernels_set_serve(index, True)
    _C.kernels_choose(index, True)
    try:
        for rows in (3, 70):  # gemv and gemm
            x = (torch.arange(rows * 96) % 13).reshape(rows, 96) / 8
            weight = (torch.arange(72 * 96) % 7).reshape(72, 96) / 4
            want = x @ weight.T
            got = torch.ops.blackwell_compat.compat_linear(x.to(f"cuda:{index}"), weight.to(f"cuda:{index}")).cpu()
            if not torch.allclose(got, want, rtol=1e-2, atol=1e-2):  # TF32 is allowed to be coarse
                raise RuntimeError(f"wrong numbers, off by {(got - want).abs().max().item():.3g}")
    except Exception as error:
        _C.kernels_set_serve(index, False)
        return str(error).strip().splitlines()[0]
    finally:
        _C.kernels_choose(index, chosen)
    return None


def _judge(index: int) -> bool:
    """Whether an op of ours computes with our kernels on a card that nobody chose them for: where PyTorch has none."""
    device = torch.device("cuda", index)
    return not has_wheel_kernels(device) and examine(device) is None


def choose(device: torch.device, chosen: bool = True) -> bool:
    """Lets our ops take our kernels on a card though the fallback is enabled (mode kernel), or no longer.

    Returns:
        whether they did before.
    """
    index = index_of(device)
    with _lock:
        before = index in _chosen
        (_chosen.add if chosen else _chosen.discard)(index)
        _C.kernels_choose(index, chosen)
    return before


def are_chosen() -> bool:
    """Whether our kernels are chosen on any card."""
    return bool(_chosen)


def _dtypes(model: nn.Module) -> Iterable[torch.dtype]:
    return {p.dtype for p in model.parameters() if p.is_floating_point()}


def _card_of(target: nn.Module | torch.device | str | int) -> torch.device:
    if isinstance(target, nn.Module):
        device = next((p.device for p in target.parameters() if p.is_cuda), torch.device("cpu"))
    else:
        device = torch.device("cuda", target) if isinstance(target, int) else torch.device(target)
    if device.type != "cuda":
        raise ValueError(f"warmup: target must be a card or a model on one, got {device}")
    return device


def warmup(
    target: nn.Module | torch.device | str | int, *args: Any, dtypes: Iterable[torch.dtype] | None = None, **kwargs: Any
) -> int:
    """Compiles and loads kernels now rather than at the first call; before a CUDA graph is captured it has to be done.

    Args:
        target: a model on a card, or a card.
        args, kwargs: inputs of the model. It is called with them until no kernel is missing; what misses one is on the
            CPU meanwhile, and counts in `fallbacks()`. Random numbers are drawn as if it had not been.
        dtypes: without inputs, matrix products and convolutions of these dtypes are made ready: those of the model
            unless given; for a card float32, float16 and bfloat16.
    Returns:
        how many kernels it made ready. A progress bar shows where a terminal is there.
    Raises:
        ValueError: `target` is not on a card. TypeError: inputs came with a card. RuntimeError: a kernel cannot be
            compiled or loaded, and why.
    """
    index = index_of(_card_of(target))
    model = target if isinstance(target, nn.Module) else None
    if model is None and (args or kwargs):
        raise TypeError(f"warmup: inputs are for a model, got some for {target}; pass warmup(model, *inputs)")
    compilers.find()
    if model is not None and (args or kwargs):
        return _load_what_it_launches(model, args, kwargs, index)
    families = [_C.kernels_for_linear, _C.kernels_for_conv1d]
    if model is not None:
        dtypes = dtypes or _dtypes(model)
        if not any(isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)) for module in model.modules()):
            families.remove(_C.kernels_for_conv1d)
    dtypes = dtypes or (torch.float32, torch.float16, torch.bfloat16)
    major, minor = torch.cuda.get_device_capability(index)
    return _load({name for dtype in dtypes for family in families for name in family(dtype, 10 * major + minor)}, index)


def _load(kernels: Iterable[str], index: int) -> int:
    names = sorted(kernels)
    batch = os.cpu_count() or 1  # that many compile at a time
    batches = [names[i : i + batch] for i in range(0, len(names), batch)]
    try:
        from rich.progress import track
    except ImportError:
        shown: Iterable[list[str]] = batches
    else:
        shown = track(batches, f"Compiling kernels for {torch.cuda.get_device_name(index)}", transient=True)
    for some in shown:
        _C.runtime_load_kernels(some, index)
    return len(names)


def _load_what_it_launches(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], index: int) -> int:
    ready = 0
    with _warming:
        _C.runtime_gather_kernels(True)
        try:
            while True:
                with torch.random.fork_rng(devices=[index]):
                    model(*args, **kwargs)
                missing = _C.runtime_gathered_kernels(index)
                if not missing:
                    return ready
                ready += _load(missing, index)
        finally:
            _C.runtime_gather_kernels(False)


class _Notice:
    """Says on the terminal which kernel a launch waits for; once in the log where there is none."""

    def __init__(self) -> None:
        self.compiled: dict[int, int] = {}  # by the index of a card

    def __call__(self, kernel: str, index: int) -> None:
        if kernel:
            self.compiled[index] = count = self.compiled.get(index, 0) + 1
            card = torch.cuda.get_device_name(index)
            if count == 1:
                log.info(
                    "compiling kernels for %s as calls need them, once on this machine (kept in %s); "
                    "blackwell_compat.warmup(model, inputs) compiles them ahead, several at a time",
                    card,
                    _C.runtime_cache_folder(),
                )
            line = f"\rblackwell_compat: compiling kernel {count} for {card}: {kernel}\x1b[K"
        else:
            line = "\r\x1b[K"
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(line)
            sys.stderr.flush()


_C.kernels_set_judge(_judge)
_C.runtime_set_compile_notice(_Notice())
_C.runtime_set_memory_release(torch.cuda.empty_cache)
