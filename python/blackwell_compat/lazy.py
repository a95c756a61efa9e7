"""Lazy upload: what the CPU wrote goes to the card when something asks for the card's bytes, or never.

While it is on, the functions of PyTorch that wait for the card flush first, and those that hand out an address of it
(bypasses.py) upload what is there. C++ code that takes an address without asking Python cannot be seen; hence it is off
unless asked for.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from blackwell_compat import _C
from blackwell_compat.replaced import replace

_lock = threading.RLock()
_undo = ExitStack()
# Whether it is on; whether PyTorch is watched; blocks open; whether they turned it on; all threads' calls in progress
_state = {"on": False, "watched": False, "blocks": 0, "by blocks": False, "calls": 0}
_OWN = frozenset({"aten", "prim", "prims", "blackwell_compat"})  # namespaces whose ops all go through the fallback
_FLUSHING = (
    (torch.cuda, ("synchronize",)),
    (getattr(torch, "accelerator", None), ("synchronize",)),
    (torch.cuda.Stream, ("synchronize", "query", "wait_event", "wait_stream", "record_event")),
    (torch.cuda.Event, ("record", "wait", "synchronize", "query")),
    (torch.cuda.CUDAGraph, ("capture_begin", "replay")),
    (torch.Tensor, ("record_stream", "set_")),
    (torch.UntypedStorage, ("resize_", "_write_file")),
)


def _flushing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def flushed(*args: Any, **kwargs: Any) -> Any:
        _C.fallback_flush()
        return function(*args, **kwargs)

    return flushed


def _flushing_unless_ours(function: Callable[..., Any]) -> Callable[..., Any]:
    """For a call of an op: libraries that registered theirs after enable() read the card themselves."""

    @functools.wraps(function)
    def flushed(op: Any, /, *args: Any, **kwargs: Any) -> Any:
        if str(op).partition(".")[0] not in _OWN:
            _C.fallback_flush()
        return function(op, *args, **kwargs)

    return flushed


def _watch() -> None:
    if _state["watched"]:
        return
    _state["watched"] = True
    for owner, names in _FLUSHING:
        for name in names:
            replace(_undo, owner, name, _flushing)
    replace(_undo, torch._ops.OpOverload, "__call__", _flushing_unless_ours)
    replace(_undo, torch._ops.OpOverloadPacket, "__call__", _flushing_unless_ours)


def _unwatch() -> None:
    if not _state["calls"]:
        _undo.close()
        _state["watched"] = False


def set_lazy_upload(on: bool) -> None:
    """Whether what the CPU writes goes to the card only when it is asked for there; off unless BLACKWELL_COMPAT_LAZY=1.

    While it is on, all results are uploaded by torch.cuda.synchronize and what streams and events of torch.cuda do,
    a CUDA graph's capture and replay, record_stream(), set_(), a storage's resize_(), ops of other libraries called
    through torch.ops, and turning it off. One tensor is uploaded by data_ptr() (its own or its storage's), DLPack,
    __cuda_array_interface__ and sharing between processes, and is written at once from then on. Copies, pickling and
    torch.save take the newest bytes from wherever they are.

    Not seen are C++ code that takes an address past Python, addresses taken before enable(), torch.Stream and
    torch.Event, and functions imported by name beforehand (from torch.utils.dlpack import to_dlpack): call
    torch.cuda.synchronize() before those.

    Raises:
        RuntimeError: the fallback is not enabled.
    """
    with _lock:
        if not on:
            _turn(False)
            _unwatch()
            return
        if not _C.fallback_installed():
            raise RuntimeError("set_lazy_upload: the fallback is not enabled; call blackwell_compat.enable() first")
        _watch()
        _turn(True)


def _turn(on: bool) -> None:
    _C.fallback_set_lazy(on)
    _state["on"] = on


def begin_call() -> None:
    """Lazy upload for this thread until as many end_call() have come.

    PyTorch's functions stay watched afterwards, which costs less than changing them for each call.
    """
    with _lock:
        _state["calls"] += 1
        _watch()
    _C.fallback_begin_lazy_call()


def end_call() -> None:
    try:
        _C.fallback_end_lazy_call()
    finally:
        with _lock:
            _state["calls"] -= 1


@contextmanager
def lazy_upload() -> Iterator[None]:
    """Lazy upload for a block, at whose end everything is uploaded; stays on where it was on before."""
    with _lock:
        if _state["blocks"] == 0:
            _state["by blocks"] = not _state["on"]
            if not _state["on"]:
                set_lazy_upload(True)
        _state["blocks"] += 1
    try:
        yield
    finally:
        with _lock:
            _state["blocks"] -= 1
            if _state["blocks"] == 0 and _state["by blocks"]:
                set_lazy_upload(False)
