"""What reaches a card past the dispatcher, while the fallback is on: replayed graphs, Triton, NCCL, chosen attention.

Writers that the fallback does not see would leave what was made of tensors stale (copies on the host, packed weights),
so all of that is dropped after each. Of a weight whose address was handed out, no packed one is kept at all.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import torch

from blackwell_compat import _C
from blackwell_compat.replaced import put_back_later, replace

log = logging.getLogger("blackwell_compat")
_undo = ExitStack()
_JIT = "triton.runtime.jit"
# Whose, setter, getter, and the value that keeps PyTorch to composites
_SWITCHES = (
    (torch._C, "_set_cudnn_enabled", "_get_cudnn_enabled", False),
    (torch._C, "_set_sdp_use_math", "_get_math_sdp_enabled", True),
    (torch._C, "_set_sdp_use_flash", "_get_flash_sdp_enabled", False),
    (torch._C, "_set_sdp_use_mem_efficient", "_get_mem_efficient_sdp_enabled", False),
    (torch._C, "_set_sdp_use_cudnn", "_get_cudnn_sdp_enabled", False),  # torch 2.5 and newer
    # TorchScript's fuser compiles kernels of its own, past the dispatcher, from the third call of a function on
    (torch._C, "_jit_override_can_fuse_on_gpu", "_jit_can_fuse_on_gpu", False),
    (torch.backends.mha, "set_fastpath_enabled", "get_fastpath_enabled", False),
)
_WRITERS = (
    (torch.cuda.CUDAGraph, ("replay",)),
    (torch._C, ("_nccl_all_reduce", "_nccl_broadcast", "_nccl_reduce", "_nccl_all_gather", "_nccl_reduce_scatter")),
    (torch._C, ("_broadcast_out", "_gather_out")),
)
# Their first argument is known outside from now on. Triton's launchers ask data_ptr, too
_EXPOSING = (
    (torch.Tensor, ("data_ptr", "__dlpack__")),
    (torch.UntypedStorage, ("data_ptr", "_share_cuda_")),
    (torch.utils.dlpack, ("to_dlpack",)),
    (torch, ("to_dlpack",)),
)


def _held(value: bool) -> Callable[[Any], Any]:
    return lambda original: lambda asked: original(value)


def choose_composites() -> None:
    """Off, whatever sets them again before leave(): what picks fused ops for CUDA alone by looking at the device."""
    for owner, setter, getter, value in _SWITCHES:
        if hasattr(owner, setter):
            _undo.callback(getattr(owner, setter), getattr(owner, getter)())
            getattr(owner, setter)(value)
            replace(_undo, owner, setter, _held(value))
    # It has its setter by heart
    replace(_undo, vars(type(torch.backends.cudnn))["enabled"], "setter", lambda _: torch._C._set_cudnn_enabled)


def _writing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def write(*args: Any, **kwargs: Any) -> Any:
        _C.fallback_flush()
        try:
            return original(*args, **kwargs)
        finally:
            _C.fallback_drop_copies()

    return write


def _exposing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def exposed(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            if isinstance(value, torch.Tensor | torch.UntypedStorage):
                _C.fallback_expose(value)
            elif isinstance(value, torch.TypedStorage):
                _C.fallback_expose(value._untyped_storage)
        return original(*args, **kwargs)

    return exposed


def _watch_addresses() -> None:
    for owner, names in _EXPOSING:
        for name in names:
            replace(_undo, owner, name, _exposing)
    if "__dlpack_c_exchange_api__" in vars(torch.Tensor):  # hands out addresses from C
        put_back_later(_undo, torch.Tensor, "__dlpack_c_exchange_api__")
        del torch.Tensor.__dlpack_c_exchange_api__


class _TritonImport(importlib.abc.MetaPathFinder):
    """Watches triton where it is imported after enable()."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _JIT:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                replace(_undo, module.JITFunction, "run", _writing)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _watch_triton() -> None:
    if _JIT in sys.modules:
        replace(_undo, sys.modules[_JIT].JITFunction, "run", _writing)
        return
    finder = _TritonImport()
    sys.meta_path.insert(0, finder)
    _undo.callback(sys.meta_path.remove, finder)


def _keep_from_inductor(lacking: list[int]) -> None:
    """What it would compile for these cards runs as it is: transformers' generate compiles without being asked."""
    warned = False

    def without_cards(original: Callable[..., Any]) -> Callable[..., Any]:
        def compile_graph(self: Any, model: Any, inputs: Any) -> Any:
            nonlocal warned
            nodes = [node.meta.get("example_value") for node in model.graph.nodes]
            for value in (*inputs, *nodes):
                if isinstance(value, torch.Tensor) and value.is_cuda and (value.device.index or 0) in lacking:
                    if not warned:
                        log.warning(
                            'torch.compile: inductor writes kernels for %s; there graphs run as with backend="eager"',
                            value.device,
                        )
                    warned = True
                    return model.forward
            return original(self, model, inputs)

        return compile_graph

    replace(_undo, torch._TorchCompileInductorWrapper, "__call__", without_cards)


def watch(lacking: list[int]) -> None:
    """From enable(): `lacking` are the cards whose ops run on the CPU."""
    for owner, names in _WRITERS:
        for name in names:
            replace(_undo, owner, name, _writing)
    _watch_addresses()
    _watch_triton()
    _keep_from_inductor(lacking)


def leave() -> None:
    """Undoes both."""
    _undo.close()
