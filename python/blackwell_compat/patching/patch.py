"""patch_model, unpatch_model and patched: plan, change, and put back on any error."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils.weight_norm import WeightNorm

from blackwell_compat import _C, fallback, kernels
from blackwell_compat.patching import channels_last, hybrid, moving
from blackwell_compat.patching.classes import is_patched, original_class
from blackwell_compat.patching.fold import CompatWeightNorm, weight_norm_hooks, weight_parametrization
from blackwell_compat.patching.freed import FreedWeight, free, is_freed, thaw, unfree
from blackwell_compat.patching.modes import ON_CARD, Candidate, NotAvailable, candidates, device_of
from blackwell_compat.patching.plan import Plan, describe, kept_weights, leaving_tensors
from blackwell_compat.patching.report import PatchReport
from blackwell_compat.patching.rules import (
    Filter,
    Pattern,
    Selection,
    patterns,
    verdict,
)
from blackwell_compat.patching.vocoder import vocoders
from blackwell_compat.precision import islands
from blackwell_compat.precision.policy import Policy, as_policy, resolve

log = logging.getLogger("blackwell_compat")
Undo = list[Callable[[], object]]


def patch_model(
    model: nn.Module,
    mode: str = "auto",
    *,
    filter_fn: Filter | None = None,
    include: Pattern | Iterable[Pattern] | None = None,
    exclude: Pattern | Iterable[Pattern] | None = None,
    dry_run: bool = False,
    free_original: bool = False,
    keep_on_device: bool = True,
    policy: Policy | str | None = None,
) -> PatchReport:
    """Lets the Linear, Conv1d and ConvTranspose1d layers of a model run on this package's ops, in place.

    Each layer stays the object it is and only gets another class, so parameters, buffers, hooks, tied weights and the
    keys of state_dict stay. Subclasses keep their own forward. A second call changes only what is not patched yet.

    Args:
        model: any module, on the CPU or on a card.
        mode: "native" PyTorch's kernels on a working card, ours for CPU tensors; "kernel" and "hybrid" the model stays
            on its card without PyTorch's kernels: patched layers compute there with this package's kernels, or
            on the CPU with packed weights, all other ops by the fallback (`enable`), and where the
            first call fails the model goes to the CPU. Where PyTorch's kernels do run on the card, all its users go
            without them until disable(), as to compare; "cpu" everything on the CPU: a model on a card moves there, its
            inputs move in and its outputs back by themselves, with the fallback for what else is on a card that lacks
            kernels; "auto" native where the card works, else kernel where ours work there, else cpu. A model that hooks
            of accelerate or diffusers bring to a card at each call counts as there; for it the last is hybrid, not cpu.
        filter_fn: filter_fn(name, module) -> bool, asked for each layer that could be patched.
        include, exclude: names of layers: fnmatch patterns (of the whole name) or compiled regexes (searched for).
        dry_run: change nothing, only report what would be done.
        free_original: float32 weights on the CPU exist in packed form only, for inference: backward() raises.
            state_dict and load_state_dict work as before. `weight` is no parameter until unpatch_model; each read
            computes a copy, which cannot be written to. The report says which weights are kept, such as shared ones,
            and why. Layers that were patched before are freed, too.
        keep_on_device: False: in mode hybrid the tensors of patched layers leave the card for the host, where they
            count once; the report says which stay, such as shared ones, and why. state_dict() has all of them.
        policy: "bf16", "fp16", "fp32" or a Policy: calls of the model, and of its parts, compute in that precision, as
            inside autocast(policy), and its islands in float32. None: a policy of an earlier call stays.
    Returns:
        PatchReport: what runs where, and why; print it.
    Raises:
        NotAvailable: the mode or option cannot be had; the message says why. The model is as it was.
        ValueError: no such mode or policy. TypeError: `model` is no nn.Module, or a pattern is no pattern.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"patch_model: model must be a torch.nn.Module, got {type(model).__name__}")
    policy = as_policy(policy) if policy is not None else None
    if policy is not None and policy.store is not None and free_original:
        raise NotAvailable("free_original=True: it packs float32 weights, which a policy with `store` does not leave")
    selection = Selection(filter_fn, patterns("include", include), patterns("exclude", exclude) or ())
    state = vars(model).get("_compat_root")
    tries = candidates(mode, model, state.mode if state is not None else None)
    if mode == "native" and state is not None and state.devices and device_of(model).type == "cpu":
        raise NotAvailable("mode 'native': an earlier call moved the model to the CPU; call unpatch_model first")
    if free_original and (device_of(model).type != "cpu" or (state is not None and state.devices)):
        where = "comes from a card" if device_of(model).type == "cpu" else f"is on {device_of(model)}"
        raise NotAvailable(f"free_original=True: this version packs weights on the CPU only, and the model {where}")
    before: BaseException | None = None
    for i, chosen in enumerate(tries):
        undo: Undo = []
        try:
            if before is not None:
                chosen = chosen._replace(why=f"{chosen.why}: {before}")
            return _attempt(model, mode, chosen, selection, dry_run, free_original, keep_on_device, policy, undo)
        except BaseException as error:
            for step in reversed(undo):
                step()
            if i + 1 == len(tries) or not isinstance(error, Exception):
                raise
            tried, following = chosen.mode, tries[i + 1].mode
            log.warning("patch_model: mode %s raised (%s); the model is restored, trying %s", tried, error, following)
            before = error
    raise AssertionError("candidates gave no mode")


def _attempt(
    model: nn.Module,
    requested: str,
    chosen: Candidate,
    selection: Selection,
    dry_run: bool,
    free_original: bool,
    keep_on_device: bool,
    policy: Policy | None,
    undo: Undo,
) -> PatchReport:
    mode, why = chosen.mode, chosen.why
    plan: Plan = [(name, module, verdict(name, module, selection)) for name, module in model.named_modules()]
    kept = kept_weights(model, plan, selection) if free_original else {}
    report = describe(model, plan, requested, mode, why, dry_run, kept)
    leaving = leaving_tensors(model, plan, report) if mode == "hybrid" and not keep_on_device else set()
    ours = {id(module) for _, module, v in plan if v.patched}
    blind = vocoders(model, lambda m: id(m) in ours)
    report.channels_last = [name for name, _ in blind]
    if policy is not None:
        resolved = resolve(policy, torch.device(report.device))
        report.precision = f"{str(resolved.dtype).removeprefix('torch.')} by policy {policy.dtype}: {resolved.why}"
        report.islands = islands.find(model, policy)
    if dry_run:
        return report
    if requested == "auto" and mode == "cpu" and device_of(model).type != "cpu":
        log.warning("patch_model: mode cpu: %s", why)
    if chosen.fallback:
        _enable_fallback(mode, device_of(model), undo)
    _remember(model, mode, undo)
    for _, module, v in plan:
        if v.patched:
            _swap(module, v.new_class, undo)
    if mode not in ON_CARD:
        hybrid.drop_first_call(model)
    else:
        _stay_on_card(model, [module for _, module, v in plan if v.patched], leaving, undo)
    if mode == "kernel":
        before = kernels.choose(device_of(model))
        undo.append(lambda: kernels.choose(device_of(model), before))
    if policy is not None:
        _compute_by(model, policy, report.islands, undo)
    for module in [module for _, module, _ in plan if kept.get(id(module), "") is None]:
        undo.append(lambda module=module: unfree(module))  # type: ignore[misc]
        free(module)
    if kept:
        _C.stats()  # drops what the cache still held of the weights that are gone
    for _, module in blind:
        undo.append(_marks(module))
        channels_last.mark(module)
    return report


def _remember(model: nn.Module, mode: str, undo: Undo) -> None:
    """Notes the mode on the model and moves it, where it has to."""
    state = vars(model).get("_compat_root")
    if state is None:
        state = vars(model)["_compat_root"] = moving.RootState(mode)
        undo.append(lambda: vars(model).pop("_compat_root", None))
    before = state.mode
    undo.append(lambda: setattr(state, "mode", before))
    state.mode = mode
    if mode == "cpu" and device_of(model).type != "cpu":
        undo.append(lambda: moving.move_back(model, state))
        moving.move_to_cpu(model, state)
        undo.append(lambda: moving.drop_moving_hooks(model))
        moving.add_hooks(model)


def _compute_by(model: nn.Module, policy: Policy, found: dict[str, str], undo: Undo) -> None:
    """The hooks of a policy, and its storage."""
    state = vars(model)["_compat_root"]
    before, narrowed = islands.installed(model), set(state.narrowed)
    undo.append(lambda: islands.install(model, before) if before is not None else islands.remove(model))
    originals: dict[str, torch.Tensor] = {}

    def restore() -> None:
        for name, data in originals.items():
            model.get_parameter(name).data = data
        state.narrowed = narrowed

    undo.append(restore)
    islands.install(model, policy)
    islands.store(model, policy, found, originals)
    state.narrowed |= originals.keys()


def _enable_fallback(mode: str, device: torch.device, undo: Undo) -> None:
    """The fallback: modes kernel and hybrid need it; beside a model in mode cpu it serves what else is on the card."""
    if fallback.is_enabled() and (mode not in ON_CARD or fallback.serves(device)):
        return
    if not fallback.is_enabled():
        undo.append(fallback.disable)
    try:
        fallback.enable(device, force=mode in ON_CARD)
    except RuntimeError as error:
        if mode in ON_CARD:
            raise
        log.info("patch_model: tensors on %s stay without kernels: %s", device, error)


def _stay_on_card(model: nn.Module, layers: list[nn.Module], leaving: set[str], undo: Undo) -> None:
    """Modes kernel and hybrid: `layers` take our ops for what is on the card; the tensors named by `leaving` go."""
    state = vars(model)["_compat_root"]
    state.card = str(device_of(model))
    if leaving:
        undo.append(lambda: moving.move_back(model, state))
        moving.move_to_cpu(model, state, leaving)
    undo += [hybrid.keep_data_on_card(layer) for layer in layers]
    undo += [lambda: hybrid.drop_upload_hooks(model), lambda: hybrid.drop_first_call(model)]
    hybrid.add_hooks(model)
    hybrid.expect_first_call(model)


def _swap(module: nn.Module, new_class: type[nn.Module] | None, undo: Undo) -> None:
    for hook in weight_norm_hooks(module):
        if type(hook) is WeightNorm:
            undo.append(lambda hook=hook: _restore_hook(hook))  # type: ignore[misc]
            hook.__class__ = CompatWeightNorm
    if new_class is not None:
        before = type(module)
        undo.append(lambda: setattr(module, "__class__", before))
        module.__class__ = new_class


def _restore_hook(hook: Any) -> None:
    hook.__class__ = WeightNorm
    vars(hook).pop("_compat_folded", None)


def _marks(root: nn.Module, alone: bool = False) -> Callable[[], None]:
    """What takes back the marks that are about to be set under `root` (`alone`: on it), and no older ones."""
    fresh = [m for m in ([root] if alone else root.modules()) if "_compat_channels_last" not in vars(m)]
    hooked = channels_last.is_marked(root)

    def undo() -> None:
        for module in fresh:
            vars(module).pop("_compat_channels_last", None)
        if not hooked:
            channels_last.drop_hooks(root, channels_last.ContiguousOutput)

    return undo


def _restore(module: nn.Module) -> None:
    """Takes everything of ours off one module."""
    if isinstance(module, FreedWeight):
        thaw(module)
    original = original_class(module)
    if original is not None:
        module.__class__ = original
    for hook in weight_norm_hooks(module):
        if type(hook) is CompatWeightNorm:
            _restore_hook(hook)
    parametrization = weight_parametrization(module)
    if parametrization is not None:
        vars(parametrization).pop("_compat_folded", None)
    channels_last.unmark(module)
    hybrid.drop_mark(module)
    hybrid.drop_upload_hooks(module)
    hybrid.drop_first_call(module)
    islands.remove_from(module)
    state = vars(module).pop("_compat_root", None)
    if state is not None:
        islands.widen(module, state.narrowed)
        moving.drop_moving_hooks(module)
        moving.move_back(module, state)


def unpatch_model(model: nn.Module) -> nn.Module:
    """Gives a patched model back as it was: classes, hooks, devices. Does nothing to an unpatched one. What a policy
    kept in 16 bits is float32 again, with the values rounded.

    Args:
        model: the model that was patched, a copy of it, or a part.
    Returns:
        `model`.
    Raises:
        TypeError: `model` is no nn.Module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"unpatch_model: model must be a torch.nn.Module, got {type(model).__name__}")
    for module in list(model.modules()):
        _restore(module)
    return model


@contextlib.contextmanager
def patched(model: nn.Module, **options: Any) -> Iterator[PatchReport]:
    """`with patched(model) as report:` patches inside the block, and puts back on leaving what was not patched before.

    Args:
        model, options: as for patch_model.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"patched: model must be a torch.nn.Module, got {type(model).__name__}")
    freed = {id(m) for m in model.modules() if is_freed(m)}
    older = {id(m): m for m in model.modules() if is_patched(m) or "_compat_root" in vars(m)}
    marks = [_marks(m, alone=True) for m in older.values()]
    state = vars(model).get("_compat_root")
    devices = dict(state.devices) if state is not None else {}
    policy, narrowed = islands.installed(model), set(state.narrowed) if state is not None else set()
    report = patch_model(model, **options)
    try:
        yield report
    finally:
        for module in list(model.modules()):
            if id(module) not in older:
                _restore(module)
            elif id(module) not in freed:
                unfree(module)
        for undo in marks:
            undo()
        if state is not None:
            islands.remove(model)
            islands.widen(model, state.narrowed - narrowed)
            state.narrowed = narrowed
            if policy is not None:
                islands.install(model, policy)
        if state is not None and state.devices != devices:  # patched before, moved here
            moving.drop_moving_hooks(model)
            moving.move_back(model, state)
            state.devices = devices
