"""The smallest set of islands with which a model stays within an error, found by trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from blackwell_compat.precision.islands import find
from blackwell_compat.precision.policy import Policy, as_policy
from blackwell_compat.precision.report import Inputs, run, under

Metric = Callable[[Any, Any], float]
MOST_GROUPS = 48  # modules are tried together where there are more


def relative(got: Any, want: Any) -> float:
    """Root mean square of the difference over that of the float32 output; 0.01 is 40 dB."""
    pairs = _pairs(got, want)
    power = sum((g - w).abs().square().sum().item() for g, w in pairs)
    return math.sqrt(power / (sum(w.abs().square().sum().item() for _, w in pairs) or 1))


def largest(got: Any, want: Any) -> float:
    """The largest absolute difference."""
    return max(((g - w).abs().max().item() for g, w in _pairs(got, want) if w.numel()), default=0.0)


def cosine(got: Any, want: Any) -> float:
    """1 minus the cosine of the angle between both, as vectors."""
    pairs = [(g.flatten(), w.flatten()) for g, w in _pairs(got, want)]
    g, w = torch.cat([g for g, _ in pairs]), torch.cat([w for _, w in pairs])
    return 1 - float(torch.vdot(g, w).abs() / (g.norm() * w.norm()).clamp(min=1e-300))


METRICS: dict[str, Metric] = {"relative": relative, "max": largest, "cosine": cosine}


def _pairs(got: Any, want: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    def values(result: Any) -> list[torch.Tensor]:
        tensors = [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
        kept = [t for t in tensors if t.is_floating_point() or t.is_complex()]
        return [t.detach().cpu().to(torch.complex128 if t.is_complex() else torch.float64) for t in kept]

    pairs = list(zip(values(got), values(want), strict=True))
    for g, w in pairs:
        if g.shape != w.shape:
            raise ValueError(
                f"suggest_policy: the model returns {tuple(w.shape)} in float32 and {tuple(g.shape)} in 16 bits; give "
                "the part whose output has a fixed size, or islands for what decides on it (Policy(float32=...))"
            )
    return pairs


def suggest_policy(
    model: nn.Module,
    inputs: Inputs,
    max_error: float,
    metric: str | Metric = "relative",
    policy: Policy | str = "bf16",
) -> Policy:
    """Looks for the fewest modules that have to stay in float32 for a model's output to stay within an error.

    Each module with parameters (or a group of neighbours, where there are more than 48) is run alone in the dtype of
    the policy; those that harm the output most become islands, as many as it takes; then those that are not needed
    after all are given back.

    Args:
        model: on any device, with float32 parameters; it is as before afterwards. Put it in eval().
        inputs: of one call: a tensor, a tuple of arguments or a dict of named ones.
        max_error: what the metric may say at most.
        metric: "relative" (root mean square over that of the output; 0.01 is 40 dB), "max" (largest difference),
            "cosine" (1 minus the cosine), or a function of (output, output in float32).
        policy: what to start from.
    Returns:
        Policy: `policy` with more islands in `float32`; `policy` itself where it needs none.
    Raises:
        ValueError: the bound is not reached even with every module an island, and what was reached.
    """
    given = as_policy(policy)
    start = replace(given, anyway=True)
    measure = METRICS[metric] if isinstance(metric, str) else metric
    with under(model, Policy("fp32", default_islands=False)):
        want = run(model, inputs)

    def error(islands: Iterable[str]) -> float:
        with under(model, replace(start, float32=(*start.float32, *islands))):
            return measure(run(model, inputs), want)

    if error(()) <= max_error:
        return given
    groups = _groups(model, start)

    def names(chosen: Iterable[int]) -> list[str]:
        return [name for i in sorted(chosen) for name in groups[i]]

    every = range(len(groups))
    least = error(names(every))
    if least > max_error:
        raise ValueError(
            f"suggest_policy: max_error {max_error:g} is below what is reached with every module in float32, "
            f"{least:.3g}: the rest is operations between modules"
        )
    harm = {i: error(names(other for other in every if other != i)) for i in every}
    ranked = sorted(harm, key=lambda i: -harm[i])
    few, enough = 0, len(ranked)
    while enough - few > 1:
        half = (few + enough) // 2
        if error(names(ranked[:half])) <= max_error:
            enough = half
        else:
            few = half
    chosen = ranked[:enough]
    for i in sorted(chosen, key=lambda i: harm[i]):
        fewer = [other for other in chosen if other != i]
        if error(names(fewer)) <= max_error:
            chosen = fewer
    return replace(given, float32=(*given.float32, *names(chosen)))


def _groups(model: nn.Module, policy: Policy) -> list[list[str]]:
    """The modules that have parameters of their own, outside of the islands that there are; neighbours together."""
    islands = tuple(f"{name}." for name in find(model, policy))
    names = [
        name
        for name, module in model.named_modules()
        if name
        and "parametrizations" not in name.split(".")
        and next(module.parameters(recurse=False), None) is not None
        and not f"{name}.".startswith(islands)
    ]
    names += [
        name
        for name, module in model.named_modules()
        if hasattr(module, "parametrizations") and name and not f"{name}.".startswith(islands) and name not in names
    ]
    size = math.ceil(len(names) / MOST_GROUPS) or 1
    return [names[i : i + size] for i in range(0, len(names), size)]
