"""float16: what overflows in a call stays in float32."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.utils import _pytree as pytree

from blackwell_compat.precision.islands import find
from blackwell_compat.precision.policy import Policy, as_policy
from blackwell_compat.precision.report import Inputs, run, under

LARGEST = torch.finfo(torch.float16).max


def calibrate(model: nn.Module, inputs: Inputs, policy: Policy | str = "fp16", headroom: float = 2.0) -> Policy:
    """Runs a model in float32 and makes islands of the modules whose inputs or outputs float16 cannot hold.

    Args:
        model: on any device, with float32 parameters; it is as before afterwards.
        inputs: of one call, typical of what will come: a tensor, a tuple of arguments or a dict of named ones.
        policy: what to start from.
        headroom: how many times larger values may get than in this call.
    Returns:
        Policy: `policy` with those modules in `float32`.
    """
    policy = as_policy(policy)
    islands = tuple(f"{name}." for name in find(model, policy))
    too_large: dict[str, None] = {}

    def watch(name: str, values: object) -> None:
        for t in pytree.tree_leaves(values):
            if isinstance(t, torch.Tensor) and t.is_floating_point() and t.numel():
                finite = t.detach().abs().nan_to_num(0, 0, 0)
                if finite.max().item() * headroom > LARGEST:
                    too_large[name] = None

    handles = [
        module.register_forward_hook(lambda m, args, output, name=name: watch(name, (args, output)))
        for name, module in model.named_modules()
        if not any(module.children()) and name and not f"{name}.".startswith(islands)
    ]
    try:
        with under(model, Policy("fp32", default_islands=False)):
            run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return replace(policy, float32=(*policy.float32, *too_large))
