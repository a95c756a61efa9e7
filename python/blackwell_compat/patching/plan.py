"""What patch_model is about to do with a model, and the report that says so."""

from __future__ import annotations

import torch
from torch import nn

from blackwell_compat import _C
from blackwell_compat.patching import moving
from blackwell_compat.patching.freed import Sharing, freed_bytes, is_freed
from blackwell_compat.patching.modes import ON_CARD, device_of
from blackwell_compat.patching.report import FunctionalLine, ModuleLine, PatchReport
from blackwell_compat.patching.rules import Selection, Verdict, is_quantized, provider, user_class
from blackwell_compat.patching.source import functional_calls

KERNEL = "compiled for this card"
Plan = list[tuple[str, nn.Module, Verdict]]


def kept_weights(model: nn.Module, plan: Plan, selection: Selection) -> dict[int, str | None]:
    """By the id of each patched layer: why its weight is kept, None where it is to go."""
    sharing = Sharing(model)
    return {
        id(module): selection.refusal(name, module) or sharing.refusal(name, module, v.new_class)
        for name, module, v in plan
        if v.patched and not is_freed(module)
    }


def leaving_tensors(model: nn.Module, plan: Plan, report: PatchReport) -> set[str]:
    """The names of the tensors that leave the card; notes in the report which do, and why others do not."""
    sharing = Sharing(model)
    leaving: set[str] = set()
    reasons = {}
    for name, module, v in plan:
        if not v.patched:
            continue
        tensors: dict[str, torch.Tensor] = dict(module.named_parameters()) | dict(module.named_buffers())
        use = sharing.use(name, module, tensors)
        if use is None:
            leaving.update(f"{name}.{key}" if name else key for key in tensors)
        reasons[name] = "its tensors left the card" if use is None else f"its tensors stay on the card: {use}"
    report.add_reasons(reasons)
    report.moved_bytes = moving.bytes_to_move(model, leaving)
    return leaving


def describe(
    model: nn.Module, plan: Plan, requested: str, mode: str, why: str, dry_run: bool, kept: dict[int, str | None]
) -> PatchReport:
    """The report; what it does not say yet, the caller adds."""
    state = vars(model).get("_compat_root")
    if state is not None:
        why += f"; already patched before, in mode {state.mode}"
    device = "cpu" if mode == "cpu" else str(device_of(model))
    report = PatchReport(mode, requested, why, device, torch.__version__, _C.onednn_version, dry_run)
    report.moved_bytes = moving.bytes_to_move(model) if mode == "cpu" else 0
    names: dict[int, str] = {}  # of the modules that hold each parameter first
    for name, module, v in plan:
        if "parametrizations" in name.split("."):  # their tensors count with the layer that they are for
            continue
        own = list(module.parameters(recurse=False))
        if "parametrizations" in module._modules:
            own += list(module._modules["parametrizations"].parameters())  # type: ignore[union-attr]
        if own or v.patched or is_quantized(module):
            kernel = mode == "kernel" and v.patched
            runs = "ours (kernel)" if kernel else provider(module, v.patched, mode in ("cpu", *ON_CARD))
            reason = KERNEL if kernel else v.reason
            if v.patched and mode in ON_CARD and not kernel:
                reason += f"; computes on the CPU, data on {device}"
            if v.patched and runs == "torch":
                reason += f"; on {device} PyTorch's kernels run, ours where a CPU tensor comes in"
            tied = next((names[id(p)] for p in own if id(p) in names), None)
            if tied is not None:
                reason += f"; parameters shared with {tied}"
            size = sum(p.numel() * p.element_size() for p in own if id(p) not in names and not nn.parameter.is_lazy(p))
            size += freed_bytes(module)
            freed = is_freed(module) or kept.get(id(module), "") is None
            if freed:
                reason += "; the weight exists in packed form only"
                report.freed_bytes += freed_bytes(module) or module._parameters["weight"].nbytes  # type: ignore[union-attr]
            elif id(module) in kept:
                reason += f"; the weight is kept: {kept[id(module)]}"
            for p in own:
                names.setdefault(id(p), name or "(root)")
            report.modules.append(ModuleLine(name, user_class(module).__name__, runs, reason, size, v.patched, freed))
        calls = functional_calls(user_class(module))  # type: ignore[arg-type]
        if calls:
            report.functional.append(FunctionalLine(name, user_class(module).__name__, calls))
    return report
