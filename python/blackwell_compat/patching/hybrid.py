"""Layers whose data stays on a card (modes hybrid and kernel), and the way to the CPU for a model that fails so."""

from __future__ import annotations

import logging
import threading
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from blackwell_compat import lazy
from blackwell_compat.fallback import is_enabled
from blackwell_compat.patching import moving
from blackwell_compat.patching.channels_last import drop_hooks

log = logging.getLogger("blackwell_compat")
CPU = torch.device("cpu")
_calls = threading.local()  # .open: of the models in calls in progress, by id(), whether they upload later


def _end_call(model: nn.Module) -> None:
    """Ends the model's call, if it has begun, and those within it whose end no hook has seen."""
    calls: dict[int, bool] = _calls.__dict__.setdefault("open", {})
    while id(model) in calls:
        _, lazily = calls.popitem()
        if lazily:
            lazy.end_call()


class UploadLater:
    """Forward pre-hook: until the call ends, our ops compute on the host, and results stay there unless somebody asks
    the card for them."""

    def __call__(self, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling():
            return
        _end_call(module)  # which an interrupt, or a compiled end, has left open
        lazily = is_enabled() and vars(module)["_compat_root"].mode == "hybrid"
        if lazily:
            lazy.begin_call()
        _calls.open[id(module)] = lazily


class UploadNow:
    """Forward hook: what outlives the call goes to the card. It may come without a pre-hook before it: where that was
    compiled, or an earlier one raised."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling():
            _end_call(module)


def add_hooks(model: nn.Module) -> None:
    drop_upload_hooks(model)
    model.register_forward_pre_hook(UploadLater(), prepend=True)
    model.register_forward_hook(UploadNow(), always_call=True)


def drop_upload_hooks(model: nn.Module) -> None:
    drop_hooks(model, UploadLater)
    drop_hooks(model, UploadNow)


def keep_data_on_card(module: nn.Module) -> Callable[[], object]:
    """Marks a patched layer; returns what takes the mark back."""
    before = vars(module).get("_compat_on_card", False)
    vars(module)["_compat_on_card"] = True
    return lambda: vars(module).update(_compat_on_card=True) if before else drop_mark(module)


def drop_mark(module: nn.Module) -> None:
    vars(module).pop("_compat_on_card", None)


def _left_on_host(error: RuntimeError, inputs: Any) -> bool:
    """Whether a call failed because its caller has not moved an input to the card."""
    tensors = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)]
    return "on the same device" in str(error) and any(t.is_cpu and t.dim() > 0 for t in tensors)


class FirstCall:
    """The forward of a model until it has run once: where that fails on the card, the whole model goes to the CPU.

    It stands in vars(model)["forward"], shows the signature of the real one, and copies and pickles with the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.over = False  # somebody else may have kept it

    @property
    def __wrapped__(self) -> Callable[..., Any]:  # what inspect.signature asks for
        return types.MethodType(type(self.model).forward, self.model)

    @property
    def __code__(self) -> types.CodeType:  # what torch.export asks for
        return self.__wrapped__.__code__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = type(self.model).forward
        if torch.compiler.is_compiling() or self.over or "_compat_root" not in vars(self.model):  # vars() is not traced
            return forward(self.model, *args, **kwargs)
        try:
            result = forward(self.model, *args, **kwargs)
        except RuntimeError as error:
            if _left_on_host(error, (args, kwargs)):
                raise
            reason = error
        else:
            self._end()
            return result
        try:
            return self._on_cpu(reason, args, kwargs)
        finally:
            del reason  # its traceback holds this frame, and so the arguments

    def _end(self) -> None:
        self.over = True
        drop_first_call(self.model)

    def _on_cpu(self, reason: RuntimeError, args: Any, kwargs: Any) -> Any:
        """The same call with everything on the CPU; raises `reason` where that fails as well."""
        model = self.model
        state: moving.RootState = vars(model)["_compat_root"]
        device = state.card
        moving.move_to_cpu(model, state)
        try:
            on_cpu = pytree.tree_map_only(torch.Tensor, lambda t: t.to(CPU), (args, kwargs))
            result = type(model).forward(model, *on_cpu[0], **on_cpu[1])
        except BaseException:
            moving.move_back(model, state)
            raise reason from None
        self._end()
        mode, state.mode = state.mode, "cpu"
        moving.add_hooks(model)
        log.warning("patch_model: the first call in mode %s raised (%s); the model runs on the CPU now", mode, reason)
        return pytree.tree_map_only(torch.Tensor, lambda t: t.to(device), result)


def expect_first_call(model: nn.Module) -> None:
    if "forward" not in vars(model):
        vars(model)["forward"] = FirstCall(model)


def drop_first_call(model: nn.Module) -> None:
    if isinstance(vars(model).get("forward"), FirstCall):
        vars(model).pop("forward", None)  # by another thread's first call, if it is gone
