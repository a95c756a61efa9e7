"""A model that was on a device and runs on the CPU: its tensors move there; hooks move inputs in and outputs back."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from blackwell_compat.patching.channels_last import drop_hooks

CPU = torch.device("cpu")
_devices = threading.local()  # .stack: where the inputs of the calls in progress came from


@dataclass
class RootState:
    """What patch_model notes on the model it was called with. Plain data: it copies and pickles with the model."""

    mode: str
    devices: dict[str, str] = field(default_factory=dict)  # where each tensor was, by its name
    card: str = ""  # where a model in mode hybrid or kernel has its data
    narrowed: set[str] = field(default_factory=set)  # parameters that a policy keeps in 16 bits


def _slots(model: nn.Module) -> Iterator[tuple[str, dict[str, Any], str]]:
    for prefix, module in model.named_modules():
        for table in (module._parameters, module._buffers):
            for key, t in table.items():
                if t is not None:
                    yield f"{prefix}.{key}" if prefix else key, table, key


def _move(table: dict[str, Any], key: str, device: torch.device, done: dict[int, torch.Tensor]) -> None:
    t = table[key]
    if id(t) not in done:
        moved = t.detach().to(device)
        if isinstance(t, nn.Parameter) and torch._has_compatible_shallow_copy_type(t, moved):
            t.data = moved  # the object stays: optimizers and tied layers hold it
            if t.grad is not None:
                t.grad.data = t.grad.data.to(device)
            moved = t
        elif isinstance(t, nn.Parameter):  # as torch.nn.Module.to does it
            moved = nn.Parameter(moved, t.requires_grad)
        done[id(t)] = moved
    if done[id(t)] is not t:
        table[key] = done[id(t)]


def bytes_to_move(model: nn.Module, only: Container[str] | None = None) -> int:
    """What move_to_cpu would move; a tensor that has two names counts once."""
    slots = [table[key] for name, table, key in _slots(model) if only is None or name in only]
    seen = {id(t): t for t in slots if t.device.type not in ("cpu", "meta")}
    return sum(t.numel() * t.element_size() for t in seen.values())


def move_to_cpu(model: nn.Module, state: RootState, only: Container[str] | None = None) -> None:
    """Moves every tensor, or those with the names in `only`, to the CPU and notes where it was."""
    done: dict[int, torch.Tensor] = {}
    kept = []  # the ids in `done` have to stay theirs
    for name, table, key in _slots(model):
        t = table[key]
        if (t.device.type in ("cpu", "meta") and id(t) not in done) or (only is not None and name not in only):
            continue
        kept.append(t)
        state.devices.setdefault(name, str(t.device))
        _move(table, key, CPU, done)


def move_back(model: nn.Module, state: RootState) -> None:
    """Puts what is still on the CPU back to where move_to_cpu took it from."""
    done: dict[int, torch.Tensor] = {}
    kept = []
    for name, table, key in _slots(model):
        device = state.devices.get(name)
        if device is not None and table[key].device == CPU:
            kept.append(table[key])
            _move(table, key, torch.device(device), done)


class MoveIn:
    """Forward pre-hook: tensors that are on a device go to the CPU, while the model is there."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        stack = _devices.__dict__.setdefault("stack", [])
        stack.append(None)
        first = next(module.parameters(), None)
        if first is not None and first.device != CPU:  # somebody has moved the model since
            return None

        def move(t: torch.Tensor) -> torch.Tensor:
            if t.device == CPU:
                return t
            if stack[-1] is None:
                stack[-1] = t.device
            return t.to(CPU)

        return pytree.tree_map_only(torch.Tensor, move, (args, kwargs))


class MoveOut:
    """Forward hook: the result goes to where the inputs came from."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        stack = _devices.__dict__.get("stack")
        device = stack.pop() if stack else None
        if device is None or output is None:
            return None
        return pytree.tree_map_only(torch.Tensor, lambda t: t.to(device), output)


def add_hooks(model: nn.Module) -> None:
    drop_moving_hooks(model)
    model.register_forward_pre_hook(MoveIn(), prepend=True, with_kwargs=True)
    model.register_forward_hook(MoveOut(), always_call=True)  # also after an error, to take the device off the stack


def drop_moving_hooks(model: nn.Module) -> None:
    drop_hooks(model, MoveIn)
    drop_hooks(model, MoveOut)
