"""weight_norm's weight, kept between calls. A recomputed one is a fresh tensor, which would be packed each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm

SAMPLES = 16  # values compared at each call: an update through `.data` changes no version
PLAIN = (torch.Tensor, nn.Parameter)


def _samples(t: torch.Tensor) -> torch.Tensor:
    """Up to SAMPLES values of a contiguous tensor, spread evenly, as a view."""
    count = min(SAMPLES, t.numel())
    step = max(1, (t.numel() - 1) // max(1, count - 1))
    return t.as_strided((count,), (step,))


def _key(t: torch.Tensor) -> tuple[Any, ...]:
    # The storage by its address: the entry holds weak references, so no other storage gets that address meanwhile
    return (t.untyped_storage()._cdata, t.data_ptr(), t._version, t.dtype, t.shape)


class FoldedWeight:
    """The product of one `g` and one `v`. It lives on what computes it (the hook, the ParametrizationList), goes when
    that is removed, and copies and pickles as an empty one."""

    __slots__ = ("_entry",)

    def __init__(self) -> None:
        self._entry: tuple[Any, ...] | None = None  # replaced as a whole, so that threads see one or the other

    def __reduce__(self) -> tuple[type[FoldedWeight], tuple[()]]:
        return FoldedWeight, ()

    def get(self, g: torch.Tensor, v: torch.Tensor, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The kept weight where `g` and `v` are what they were, else a new one. Only for what `can_keep` agrees to."""
        key = (_key(g), _key(v))
        entry = self._entry
        # Outside inference mode: an inference tensor has no version, so writes to it would go unnoticed
        with torch.inference_mode(False), torch.no_grad():
            samples = (_samples(g), _samples(v))
            if entry is not None:
                old_key, _, old_samples, folded, version = entry
                same = old_key == key and folded._version == version
                if same and torch.equal(old_samples[0], samples[0]) and torch.equal(old_samples[1], samples[1]):
                    return folded  # type: ignore[no-any-return]
            folded = compute()
            if type(folded) is torch.Tensor:  # not under FakeTensorMode and the like
                weak = tuple(StorageWeakRef(t.untyped_storage()) for t in (g, v))  # type: ignore[no-untyped-call]
                self._entry = (key, weak, tuple(s.clone() for s in samples), folded, folded._version)
        return folded


def can_keep(g: torch.Tensor, v: torch.Tensor, hybrid: bool) -> bool:
    """Whether the product may be kept: nobody wants its gradient, and a change of `g` or `v` can be seen.

    On a card that takes a look at its values, which is cheap in mode hybrid alone: there they are on the host, too.
    """
    if torch.is_grad_enabled() and (g.requires_grad or v.requires_grad):
        return False
    return (
        not torch._C._get_tracing_state()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and type(g) in PLAIN
        and type(v) in PLAIN
        and (hybrid or (g.is_cpu and v.is_cpu))
        and not (g.is_inference() or v.is_inference())
        and g.is_contiguous()
        and v.is_contiguous()
        and g.numel() > 0
        and v.numel() > 0
    )


def _folded(
    owner: Any, g: torch.Tensor, v: torch.Tensor, hybrid: bool, compute: Callable[[], torch.Tensor]
) -> torch.Tensor | None:
    if torch.compiler.is_compiling() or not can_keep(g, v, hybrid):
        return None
    kept = owner.__dict__.get("_compat_folded")
    if kept is None:
        kept = owner.__dict__["_compat_folded"] = FoldedWeight()
    return kept.get(g, v, compute)  # type: ignore[no-any-return]


class CompatWeightNorm(WeightNorm):
    """The hook of torch.nn.utils.weight_norm on a patched layer: it sets `weight`, but computes it only if need be."""

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        g, v = getattr(module, self.name + "_g"), getattr(module, self.name + "_v")
        hybrid = getattr(module, "_compat_on_card", False)
        traced = isinstance(g, torch.fx.Proxy)  # torch.fx.symbolic_trace
        folded = None if traced else _folded(self, g, v, hybrid, lambda: self.compute_weight(module))
        if folded is None:
            super().__call__(module, inputs)
        elif module.__dict__.get(self.name) is not folded:
            setattr(module, self.name, folded)


def weight_norm_hooks(module: nn.Module) -> list[WeightNorm]:
    """The old hooks of weight_norm on a module."""
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm)]


def weight_parametrization(module: nn.Module) -> ParametrizationList | None:
    """What computes `weight`, where it is parametrized."""
    if "parametrizations" not in module._modules:  # a scripted module's table has no get()
        return None
    lists: Any = module._modules["parametrizations"]
    found = lists._modules.get("weight")
    return found if isinstance(found, ParametrizationList) else None


def is_weight_norm(parametrization: ParametrizationList) -> bool:
    return len(parametrization) == 1 and type(parametrization[0]) is _WeightNorm


def weight_of(module: nn.Module) -> torch.Tensor:
    """`module.weight`, without computing a weight_norm parametrization again."""
    if not torch.compiler.is_compiling() and "parametrizations" in module._modules:
        parametrization = weight_parametrization(module)
        if parametrization is not None and is_weight_norm(parametrization):
            g: Any = parametrization.original0
            v: Any = parametrization.original1
            hybrid: Any = module._compat_on_card
            folded = _folded(parametrization, g, v, hybrid, parametrization)
            if folded is not None:
                return folded
    return module.weight  # type: ignore[return-value]
