"""to_channels_last_1d, for a tensor and for a patched module."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils import _pytree as pytree

from blackwell_compat.patching.layers import CompatConv1d, CompatConvTranspose1d
from blackwell_compat.patching.layout import tensor_to_channels_last_1d

CONVOLUTIONS = (CompatConv1d, CompatConvTranspose1d)
T = TypeVar("T", torch.Tensor, nn.Module)


class ContiguousOutput:
    """Forward hook of a module that runs channels-last-1d inside: what it returns is contiguous, as in PyTorch."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return _contiguous(output)
        return pytree.tree_map_only(torch.Tensor, _contiguous, output)


def _contiguous(t: torch.Tensor) -> torch.Tensor:
    return t.contiguous() if t.layout is torch.strided else t


def to_channels_last_1d(module_or_tensor: T) -> T:
    """A tensor, or the convolutions of a patched module, in channels-last-1d: (N, C, L) with strides (C * L, 1, C).

    Args:
        module_or_tensor: a 3-D tensor (N, C, L), or a module that patch_model has patched. In a module each Conv1d and
            ConvTranspose1d then takes and gives that format, and what the module itself returns is contiguous again.
            Right where nothing between the convolutions reads strides (view, data_ptr, numpy).
    Returns:
        A tensor of the same values with those strides (the same tensor where it has them), or the module itself,
        changed in place; unpatch_model reverts it.
    Raises:
        ValueError: the tensor is not 3-D, or the module holds no patched convolution.
        TypeError: neither a tensor nor a module.
    """
    if isinstance(module_or_tensor, torch.Tensor):
        return tensor_to_channels_last_1d(module_or_tensor)
    if not isinstance(module_or_tensor, nn.Module):
        raise TypeError(f"to_channels_last_1d: wants a tensor or a module, got {type(module_or_tensor).__name__}")
    if not any(isinstance(m, CONVOLUTIONS) for m in module_or_tensor.modules()):
        raise ValueError(
            f"to_channels_last_1d: {type(module_or_tensor).__name__} holds no patched Conv1d or ConvTranspose1d; "
            "call patch_model on it first"
        )
    mark(module_or_tensor)
    return module_or_tensor


def mark(root: nn.Module) -> None:
    """Sets the flag on the patched convolutions under `root` and the hook on `root`."""
    for module in root.modules():
        if isinstance(module, CONVOLUTIONS):
            module._compat_channels_last = True
    if not any(isinstance(hook, ContiguousOutput) for hook in root._forward_hooks.values()):
        root.register_forward_hook(ContiguousOutput())


def is_marked(root: nn.Module) -> bool:
    return any(isinstance(hook, ContiguousOutput) for hook in root._forward_hooks.values())


def unmark(module: nn.Module) -> None:
    """Takes flag and hook off one module."""
    vars(module).pop("_compat_channels_last", None)
    drop_hooks(module, ContiguousOutput)


def drop_hooks(module: nn.Module, kind: type) -> None:
    """Removes the forward hooks and pre-hooks of a class, also where the module is a copy and the handles are gone."""
    tables: tuple[Any, ...] = (
        module._forward_hooks_with_kwargs,
        module._forward_hooks_always_called,
        module._forward_pre_hooks_with_kwargs,
    )
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key in [key for key, hook in hooks.items() if isinstance(hook, kind)]:
            del hooks[key]
            for table in tables:
                table.pop(key, None)
