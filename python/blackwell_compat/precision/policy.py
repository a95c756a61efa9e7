"""What computes in bfloat16 or float16 and what stays in float32: the choice, and what becomes of it on a device."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from blackwell_compat.doctor import cpu_isa

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
Island = str | re.Pattern[str] | type[nn.Module]
CPU_NEEDS = {"bf16": ("avx512_bf16", "amx_bf16"), "fp16": ("avx512_fp16",)}
CARD_NEEDS = {"bf16": (8, 0), "fp16": (7, 0)}  # compute capability with tensor cores for it


@dataclass(frozen=True)
class Policy:
    """What computes in which precision.

    Attributes:
        dtype: "bf16", "fp16" or "fp32", of matrix products and convolutions; what needs float32 (spectra, complex
            numbers, norms, softmax, losses, cumulative sums, exp, log, pow) computes in float32 all the same.
        store: "bf16" or "fp16": patch_model keeps the matrices among the parameters in it, islands excepted.
        float32: islands, modules that stay in float32 with all that is in them: fnmatch patterns of the whole name,
            compiled regexes (searched for in the name), or classes.
        default_islands: tokenizers, spectrograms, speaker encoders and the last stage of vocoders are islands, too.
        anyway: compute in `dtype` even where the device is slower in it than in float32.
    """

    dtype: str = "bf16"
    store: str | None = None
    float32: tuple[Island, ...] = ()
    default_islands: bool = True
    anyway: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"Policy: dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.store not in (None, "bf16", "fp16"):
            raise ValueError(f"Policy: store must be bf16, fp16 or None, got {self.store!r}")
        given: object = self.float32
        islands = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
        for island in islands:
            if not isinstance(island, str | re.Pattern) and not (
                isinstance(island, type) and issubclass(island, nn.Module)
            ):
                raise TypeError(f"Policy: float32 takes names, compiled regexes and classes of modules, got {island!r}")
        object.__setattr__(self, "float32", islands)


class Resolved(NamedTuple):
    """A policy on a device."""

    dtype: torch.dtype
    why: str


def as_policy(policy: Policy | str) -> Policy:
    return policy if isinstance(policy, Policy) else Policy(policy)


def resolve(policy: Policy | str, device: torch.device | str) -> Resolved:
    """The dtype that a policy comes to on a device, and why.

    A card without tensor cores for bfloat16 (below 8.0) takes float16, without those for float16 (below 7.0) float32;
    a CPU without instructions for the dtype float32.
    """
    policy, device = as_policy(policy), torch.device(device)
    wanted = policy.dtype
    if wanted == "fp32" or policy.anyway:
        return Resolved(DTYPES[wanted], "asked for")
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        name = f"{torch.cuda.get_device_name(device)} ({capability[0]}.{capability[1]})"
        if capability >= CARD_NEEDS[wanted]:
            return Resolved(DTYPES[wanted], f"{name} has tensor cores for it")
        if wanted == "bf16" and capability >= CARD_NEEDS["fp16"]:
            return Resolved(torch.float16, f"{name} has tensor cores for float16, none for bfloat16")
        return Resolved(torch.float32, f"{name} has no tensor cores for {wanted}")
    have = [flag for flag in CPU_NEEDS[wanted] if flag in cpu_isa()]
    if device.type != "cpu" or have:
        return Resolved(DTYPES[wanted], f"the CPU has {have[0]}" if have else "asked for")
    return Resolved(torch.float32, f"the CPU has none of {', '.join(CPU_NEEDS[wanted])} and is slower in {wanted}")
