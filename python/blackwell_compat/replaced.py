"""Functions of other modules that stand replaced for a time: an ExitStack puts them back, the last first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

_ABSENT = object()


def put_back_later(undo: ExitStack, owner: Any, name: str) -> None:
    """An attribute that `owner` only inherits is deleted then."""
    before = vars(owner).get(name, _ABSENT)
    if before is _ABSENT:
        undo.callback(delattr, owner, name)
    else:
        undo.callback(setattr, owner, name, before)


def replace(undo: ExitStack, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """With what `make` makes of it; nothing where `owner` has none of that name, as in other versions of PyTorch."""
    if not hasattr(owner, name):
        return
    put_back_later(undo, owner, name)
    setattr(owner, name, make(getattr(owner, name)))
