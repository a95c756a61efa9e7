"""Modules that stay in float32 inside a model that does not: which, and the hooks that make it so."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from blackwell_compat.patching.channels_last import drop_hooks
from blackwell_compat.patching.rules import matches, user_class
from blackwell_compat.precision.context import autocast
from blackwell_compat.precision.policy import DTYPES, Policy

LOW = (torch.bfloat16, torch.float16)
WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
# By the last words of a module's name or class
DEFAULTS = {
    ("tokenizer",): "a tokenizer: a small error picks another token",
    ("stft",): "a spectrum",
    ("istft",): "a spectrum",
    ("mel",): "a spectrogram",
    ("spec",): "a spectrogram",
    ("spectrogram",): "a spectrogram",
    ("speaker", "encoder"): "a speaker encoder: it compares angles of vectors",
    ("source",): "a harmonic source: errors of its phase add up",
    ("voice", "encoder"): "a speaker encoder: it compares angles of vectors",
}
LAST_STAGE = "the last stage of a vocoder: its rounding is heard"
ONE_VALUE = "one value a step, as a waveform or a pitch"
CONVOLUTIONS = (nn.Conv1d, nn.ConvTranspose1d)
FLOAT32 = autocast("fp32")
_calls = threading.local()  # .stack: of the calls in progress the module, its block, and the dtype that came in


def words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in WORDS.findall(name))


def reason_for(name: str, module: nn.Module, policy: Policy) -> str | None:
    """Why a module is an island under a policy, None where it is not."""
    for island in policy.float32:
        if isinstance(island, type) and isinstance(module, island):
            return f"asked for: {island.__name__}"
        if not isinstance(island, type) and name and matches(name, island):
            return f"asked for: {island if isinstance(island, str) else island.pattern!r}"
    if not policy.default_islands or not name:
        return None
    if name.rpartition(".")[2] == "conv_post":
        return LAST_STAGE
    if isinstance(module, CONVOLUTIONS) and module.out_channels == 1 and module.kernel_size[0] > 1:
        return ONE_VALUE
    spoken = words(name.rpartition(".")[2]), words(user_class(module).__name__)
    for last, reason in DEFAULTS.items():
        if any(said[-len(last) :] == last for said in spoken):
            return reason
    return None


def find(model: nn.Module, policy: Policy) -> dict[str, str]:
    """The names of the islands of a model, each with its reason; what is inside of one is not named again."""
    found: dict[str, str] = {}

    def walk(prefix: str, module: nn.Module) -> None:
        reason = None if isinstance(module, nn.ModuleList | nn.ModuleDict) else reason_for(prefix, module, policy)
        if reason is not None:
            found[prefix] = reason
            return
        for name, child in module.named_children():
            walk(f"{prefix}.{name}" if prefix else name, child)

    walk("", model)
    return found


class EnterPolicy:
    """Forward pre-hook of a model: the call computes by its policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def __call__(self, module: nn.Module, args: Any) -> None:
        card = next((p.device for p in module.parameters() if p.is_cuda), None)
        _enter(module, autocast(self.policy, card))


class EnterIsland:
    """Forward pre-hook of an island and of what is in it, which its methods may call: inputs to float32, in which the
    call computes."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        stack = _calls.__dict__.get("stack")
        if stack and stack[-1][1] is FLOAT32:  # inside of an island already
            return None
        tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        _enter(module, FLOAT32, next((t.dtype for t in tensors if t.dtype in LOW), None))
        return pytree.tree_map_only(torch.Tensor, lambda t: t.float() if t.dtype in LOW else t, (args, kwargs))


class Leave:
    """Forward hook of both: what an island got in 16 bits it returns in 16 bits, unless `wide`."""

    def __init__(self, wide: bool = False) -> None:
        self.wide = wide

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        stack = _calls.__dict__.get("stack")
        if not stack or stack[-1][0] is not module:  # a pre-hook before ours raised
            return None
        _, block, came = stack.pop()
        block.__exit__(None, None, None)
        if came is None or self.wide or output is None:
            return None
        return pytree.tree_map_only(torch.Tensor, lambda t: t.to(came) if t.dtype == torch.float32 else t, output)


def _enter(module: nn.Module, block: autocast, came: torch.dtype | None = None) -> None:
    block.__enter__()
    _calls.__dict__.setdefault("stack", []).append((module, block, came))


def _entries(model: nn.Module) -> list[nn.Module]:
    """The model and its parts, which code may call without calling the model."""
    found: list[nn.Module] = []

    def parts(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList | nn.ModuleDict):
                parts(child)
            else:
                found.append(child)

    parts(model)
    return [model, *found]


def install(model: nn.Module, policy: Policy) -> dict[str, str]:
    """Puts the hooks of a policy on a model.

    Returns:
        the islands, as find gives them.
    """
    remove(model)
    found = find(model, policy)
    islands = {name: model.get_submodule(name) for name in found}
    own = {id(module) for module in islands.values()}
    for module in _entries(model):
        if id(module) not in own:
            module.register_forward_pre_hook(EnterPolicy(policy), prepend=True)
            module.register_forward_hook(Leave(), always_call=True)
    for name, island in islands.items():
        for module in island.modules():
            module.register_forward_pre_hook(EnterIsland(), prepend=True, with_kwargs=True)
            module.register_forward_hook(Leave(wide=found[name] in (LAST_STAGE, ONE_VALUE)), always_call=True)
    return found


def installed(model: nn.Module) -> Policy | None:
    """The policy whose hooks are on a model."""
    return next((hook.policy for hook in model._forward_pre_hooks.values() if isinstance(hook, EnterPolicy)), None)


def remove(model: nn.Module) -> None:
    """Takes them off again."""
    for module in model.modules():
        remove_from(module)


def remove_from(module: nn.Module) -> None:
    for kind in (EnterPolicy, EnterIsland, Leave):
        drop_hooks(module, kind)


def store(model: nn.Module, policy: Policy, islands: Iterable[str], before: dict[str, torch.Tensor]) -> None:
    """Keeps the matrices among a model's float32 parameters in the 16 bits of `policy.store`, islands excepted.

    Args:
        before: takes by name what each was, also where an error ends it halfway.
    """
    if policy.store is None:
        return
    wide = {id(p) for name in islands for p in model.get_submodule(name).parameters()}
    for name, p in model.named_parameters():
        is_matrix = sum(size > 1 for size in p.shape) > 1
        if p.dtype == torch.float32 and id(p) not in wide and is_matrix:
            before[name] = p.data
            p.data = p.data.to(DTYPES[policy.store])


def widen(model: nn.Module, names: Iterable[str]) -> None:
    """Parameters that store() has narrowed to float32 again, rounded as they are."""
    parameters = dict(model.named_parameters())
    for name in names:
        if name in parameters and parameters[name].dtype in LOW:
            parameters[name].data = parameters[name].data.float()
