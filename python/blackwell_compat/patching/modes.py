"""Which modes there are, and which one a model can have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from blackwell_compat import kernels
from blackwell_compat.fallback import means_no_kernel
from blackwell_compat.patching.probe import examine

MODES = ("auto", "native", "kernel", "hybrid", "cpu")
ON_CARD = ("kernel", "hybrid")  # the data stays there
SLOWER = "op by op on the CPU the model would be slower than there as a whole"


class NotAvailable(RuntimeError):
    """A mode or option that this version or this machine does not have; the message says why and what there is."""


def tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _targets(module: nn.Module) -> Iterator[Any]:
    """Where hooks that offload bring a module when it is called."""
    accelerate, diffusers = vars(module).get("_hf_hook"), vars(module).get("_diffusers_hook")
    for hook in getattr(accelerate, "hooks", (accelerate,)):
        yield getattr(hook, "execution_device", None)
    for hook in getattr(diffusers, "hooks", {}).values():
        yield getattr(getattr(hook, "group", None), "onload_device", None)


def brought_to(model: nn.Module) -> torch.device | None:
    """The card to which hooks of accelerate or diffusers bring the model, or parts of it, at each call."""
    for module in model.modules():
        for target in _targets(module):
            device = torch.device("cpu" if target is None else target)
            if device.type == "cuda":
                return torch.device("cuda", kernels.index_of(device))
    return None


def device_of(model: nn.Module) -> torch.device:
    """The first device of the model that is neither the CPU nor meta, else where hooks bring it, else the CPU."""
    for t in tensors(model):
        if t.device.type not in ("cpu", "meta"):
            return t.device
    return brought_to(model) or torch.device("cpu")


class Candidate(NamedTuple):
    """A mode to try, the reason for it, and whether the card needs the fallback then."""

    mode: str
    why: str
    fallback: bool = False


def _lacks_kernels(failed: dict[str, str]) -> bool:
    return any(map(means_no_kernel, failed.values()))


def candidates(mode: str, model: nn.Module, already: str | None) -> list[Candidate]:
    """The modes to try, best first. `already`: the mode that the model is patched in.

    Raises:
        ValueError: no such mode. NotAvailable: the mode asked for cannot be had; the message says why.
    """
    if mode not in MODES:
        raise ValueError(f"patch_model: mode must be one of {', '.join(MODES)}, got {mode!r}")
    device, hooked = device_of(model), brought_to(model)
    if mode == "cpu":
        if hooked is not None:
            raise NotAvailable(
                f"mode 'cpu': hooks of accelerate or diffusers bring the model to {hooked} at each call; remove them "
                "(accelerate.hooks.remove_hook_from_submodules), or use 'kernel' or 'hybrid'"
            )
        return [Candidate("cpu", "asked for", device.type == "cuda" and _lacks_kernels(examine(device)))]
    if device.type == "cpu":
        if mode == "auto":
            return [Candidate("cpu", "the model is on the CPU")]
        if mode in ON_CARD:
            raise NotAvailable(f"mode {mode!r}: the model is on the CPU; move it to the card first, or use 'cpu'")
        return [Candidate("native", "asked for; the model is on the CPU")]
    whole = "cpu" if hooked is None else "hybrid"  # what takes the model where its kernels fail
    failed = examine(device)
    broken = f"PyTorch's kernels do not work on {device} ({'; '.join(f'{k}: {why}' for k, why in failed.items())})"
    works = f"PyTorch's kernels work on {device}"
    if mode == "native":
        if failed:
            raise NotAvailable(f"mode 'native': {broken}; use 'hybrid' or 'cpu'")
        return [Candidate("native", f"asked for; {works}")]
    if mode == "auto" and not failed:
        return [Candidate("native", works), Candidate(whole, "native raised", hooked is not None)]
    if mode == "kernel":
        unusable = kernels.examine(device)
        if unusable is not None:
            raise NotAvailable(f"mode 'kernel': {unusable}; use 'hybrid' or 'cpu'")
    stays = mode if mode in ON_CARD else already
    if stays in ON_CARD:
        asked = "asked for; " if mode == stays else ""
        state = broken if failed else f"{works}, and are out of the way until disable()"
        return [Candidate(stays, f"{asked}{state}", True), Candidate(whole, f"{stays} raised", True)]
    no_image = _lacks_kernels(failed)
    unusable = kernels.examine(device) if no_image else "what fails is not for want of kernels"
    if unusable is None:
        return [Candidate("kernel", f"{broken}; ours do", True), Candidate(whole, "kernel raised", True)]
    if hooked is not None:
        return [Candidate("hybrid", f"{broken}; ours: {unusable}; hooks bring the model there at each call", True)]
    return [Candidate("cpu", f"{broken}; ours: {unusable}; {SLOWER}", no_image)]
