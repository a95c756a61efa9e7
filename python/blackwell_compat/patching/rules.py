"""The one rule: may this layer be swapped, and why not. The report and the swap both ask here."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from blackwell_compat import _C
from blackwell_compat.patching.classes import (
    Unsupported,
    base_of,
    has_parametrized_class,
    is_patched,
    original_class,
    swapped_class,
)
from blackwell_compat.patching.fold import PLAIN, is_weight_norm, weight_norm_hooks, weight_parametrization
from blackwell_compat.patching.freed import is_freed

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
Pattern = str | re.Pattern[str]
Filter = Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Verdict:
    """What happens to one module: the class it gets (None: it stays) and the reason."""

    new_class: type[nn.Module] | None
    reason: str
    patched: bool  # afterwards


@dataclass(frozen=True)
class Selection:
    """Which modules the caller wants patched."""

    filter_fn: Filter | None = None
    include: tuple[Pattern, ...] | None = None
    exclude: tuple[Pattern, ...] = ()

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Why a module is not wanted, None where it is."""
        if self.include is not None and not any(matches(name, p) for p in self.include):
            return "not in include"
        for pattern in self.exclude:
            if matches(name, pattern):
                return f"excluded by {pattern if isinstance(pattern, str) else pattern.pattern!r}"
        if self.filter_fn is not None and not self.filter_fn(name, module):
            return "filter_fn said no"
        return None


def patterns(argument: str, given: Pattern | Iterable[Pattern] | None) -> tuple[Pattern, ...] | None:
    """`include` or `exclude` as a tuple. Raises TypeError for what is no pattern."""
    if given is None:
        return None
    found = (given,) if isinstance(given, (str, re.Pattern)) else tuple(given)
    for pattern in found:
        if not isinstance(pattern, (str, re.Pattern)):
            raise TypeError(f"patch_model: {argument} must hold fnmatch patterns or compiled regexes, got {pattern!r}")
    return found


def matches(name: str, pattern: Pattern) -> bool:
    """A text is an fnmatch pattern of the whole name; a regex is searched for in it."""
    if isinstance(pattern, str):
        return fnmatch.fnmatchcase(name, pattern)
    return pattern.search(name) is not None


def user_class(module: nn.Module) -> type[nn.Module]:
    """The class that the user wrote or took: without ours, and without the one parametrize makes."""
    cls = original_class(module) or type(module)
    return cls.__bases__[0] if has_parametrized_class(module) else cls


def is_quantized(module: nn.Module) -> bool:
    """Whether this is one of torch's quantized layers. Their weights are no parameters."""
    return "_packed_params" in module._modules or "_packed_params" in vars(module)


def weight_tensors(module: nn.Module) -> tuple[torch.Tensor, ...]:
    """The tensors that `weight` is made of, never a stale `weight` itself. Raises Unsupported for any other."""
    for hook in weight_norm_hooks(module):
        if hook.name == "weight":
            return getattr(module, "weight_g"), getattr(module, "weight_v")  # noqa: B009
    parametrization = weight_parametrization(module)
    if parametrization is not None:
        if is_weight_norm(parametrization):
            return parametrization.original0, parametrization.original1  # type: ignore[return-value]
        names = ", ".join(type(p).__name__ for p in parametrization)
        raise Unsupported(f"weight is computed at each call by {names}; packing it would not pay")
    weight = module._parameters.get("weight")
    if weight is None:
        raise Unsupported("weight is not a parameter: something computes it at each call; packing it would not pay")
    return (weight,)


def _check_tensor(t: torch.Tensor) -> None:
    if is_lazy(t):
        raise Unsupported("not initialised yet (lazy): run it once, then call patch_model again")
    if type(t) not in PLAIN or t.is_quantized or t.layout is not torch.strided:
        raise Unsupported(f"weight is no plain tensor ({type(t).__name__}, {t.dtype}, {t.layout})")
    if t.is_meta:
        raise Unsupported("weight is on the meta device: it has no values")
    if t.is_complex():
        raise Unsupported(f"weight is complex ({t.dtype})")
    if t.dtype not in DTYPES:
        raise Unsupported(f"weight is {t.dtype}; ours takes float32, float16, bfloat16 and float64")


def _swapped(module: nn.Module) -> tuple[type[nn.Module], str]:
    if base_of(type(module)) is None:
        if is_quantized(module):
            raise Unsupported("quantized: its weights are packed already")
        raise Unsupported("no replacement for this class; left to the dispatcher")
    weights = weight_tensors(module)
    if "forward" in vars(module):
        raise Unsupported("forward is replaced on the object itself; reached by the dispatcher only")
    for t in weights:
        _check_tensor(t)
    new = swapped_class(module)
    cls = user_class(module)
    reason = "computed by ATen" if weights[-1].dtype is torch.float64 else "weights packed once"
    if weight_norm_hooks(module) or weight_parametrization(module) is not None:
        reason += "; weight_norm folded while nobody wants its gradient"
    base = base_of(cls)
    if base is not None and cls.forward is not base.forward:
        reason += f"; a {base.__name__} with its own forward, which is kept"
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        reason += "; nn.MultiheadAttention uses the weight without calling forward"
    return new, reason


def verdict(name: str, module: nn.Module, selection: Selection) -> Verdict:
    """The rule, for one module."""
    if is_patched(module):
        return Verdict(None, "already patched", True)
    if base_of(type(module)) is not None:
        refusal = selection.refusal(name, module)
        if refusal is not None:
            return Verdict(None, refusal, False)
    if isinstance(module, nn.MultiheadAttention):
        return Verdict(None, "calls F.multi_head_attention_forward; left to the dispatcher", False)
    try:
        new, reason = _swapped(module)
    except Unsupported as error:
        return Verdict(None, str(error), False)
    return Verdict(new, reason, True)


def provider(module: nn.Module, patched: bool, to_cpu: bool) -> str:
    """Who computes a module: "ours" with the instruction set, oneDNN or ATen in parentheses, or "torch"."""
    if not patched:
        return "torch"
    weight = weight_tensors_of_patched(module)
    if weight is None or (weight.device.type != "cpu" and not to_cpu):
        return "torch"
    names = {torch.float32: "Float", torch.bfloat16: "BFloat16", torch.float16: "Half"}
    computed = _C.cpu_dtypes().get(names.get(weight.dtype, ""))
    if computed is None:
        return "ours (ATen)"
    return f"ours ({_C.cpu_isa})" if computed == "Float" else "ours (oneDNN)"


def weight_tensors_of_patched(module: nn.Module) -> torch.Tensor | None:
    if is_freed(module):
        return module._compat_parameter  # type: ignore[return-value]  # empty, but of that dtype and device
    try:
        return weight_tensors(module)[-1]
    except Unsupported:
        return None
