"""Functional calls in a module's own code: a swap of layers does not reach them, the dispatcher does. Best effort."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

FUNCTIONS = {"linear", "conv1d", "conv_transpose1d", "stft", "istft"}
OWNERS = {"F", "functional", "torch"}
# Layers of torch that hand the weights of layers inside them to one function, without calling those layers
KNOWN: dict[type, tuple[str, ...]] = {
    nn.MultiheadAttention: ("F.multi_head_attention_forward",),
    nn.TransformerEncoderLayer: ("torch._transformer_encoder_layer_fwd (in eval mode)",),
}


def code_of(function: Any) -> types.CodeType | None:
    return getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None


def tree_of(function: Callable[..., Any]) -> ast.FunctionDef | None:
    """The parsed source of a function, None where there is none."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    return tree.body[0] if tree.body and isinstance(tree.body[0], ast.FunctionDef) else None


def dotted(node: ast.AST) -> str | None:
    """`a.b.c` of an expression that is nothing but that."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner is not None else None
    return None


def _is_torch(name: str, attr: str, scope: dict[str, Any]) -> bool:
    """Whether a dotted name stands for torch's function of that name."""
    first, *rest = name.split(".")
    value = scope.get(first)
    for part in rest:
        value = getattr(value, part, None)
    if value is None:  # imported inside the function: go by the spelling
        return len(rest) > 0 and (rest[-2:-1] or [first])[0] in OWNERS
    return getattr(value, "__name__", None) == attr and str(getattr(value, "__module__", "torch")).startswith("torch")


def _calls(function: Any) -> Iterator[str]:
    code = code_of(function)
    if code is None or not FUNCTIONS & {*code.co_names}:  # cheap, and most are done here
        return
    tree = tree_of(function)
    if tree is None:
        yield from sorted(FUNCTIONS & {*code.co_names})
        return
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        attr = name.rpartition(".")[2] if name else node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if attr not in FUNCTIONS:
            continue
        if name is not None and name.partition(".")[0] != "self" and _is_torch(name, attr, scope):
            yield name
        elif attr in ("stft", "istft") and (name is None or name.partition(".")[0] not in ("self", *scope)):
            yield f"Tensor.{attr}"


@functools.lru_cache(maxsize=1024)
def functional_calls(cls: type) -> tuple[str, ...]:
    """The calls of linear, conv1d, conv_transpose1d, stft and istft as functions in the methods of `cls`, sorted."""
    found: set[str] = set()
    for owner in cls.__mro__:
        found.update(KNOWN.get(owner, ()))
        if owner.__module__.startswith(("torch.nn.modules.", "blackwell_compat.")) or owner is object:
            continue
        for value in vars(owner).values():
            if isinstance(value, types.FunctionType):
                found.update(_calls(value))
    return tuple(sorted(found))
