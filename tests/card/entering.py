"""Packages below their __init__, which imports more than the models need."""

import importlib.util
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock


def enter(put: Callable[[str, Any], None], packages: Iterable[str], stubs: Iterable[str] = ()) -> None:
    """Lets submodules of `packages` ("a", "a.b") be imported without running their __init__, and `stubs` where missing.

    `put(name, module)` puts one into sys.modules.
    """
    missing = [name for name in stubs if importlib.util.find_spec(name.partition(".")[0]) is None]
    for name in missing:
        put(name, MagicMock())
    for name in packages:
        parent, _, last = name.rpartition(".")
        found = PathFinder.find_spec(last, list(sys.modules[parent].__path__) if parent else sys.path)
        if found is None or found.submodule_search_locations is None:
            raise ModuleNotFoundError(f"needs {name}")
        module = ModuleType(name)
        module.__path__ = list(found.submodule_search_locations)
        put(name, module)
