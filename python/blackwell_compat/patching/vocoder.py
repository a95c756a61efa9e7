"""Finds vocoders whose code cannot tell strides: they run channels-last-1d. A whitelist; anything unknown means no."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.weight_norm import WeightNorm

from blackwell_compat.patching.channels_last import ContiguousOutput
from blackwell_compat.patching.classes import base_of
from blackwell_compat.patching.fold import CompatWeightNorm
from blackwell_compat.patching.rules import user_class
from blackwell_compat.patching.source import dotted, tree_of

CONVOLUTIONS = (nn.Conv1d, nn.ConvTranspose1d)
LOOPS = (builtins.zip, builtins.range, builtins.len, builtins.enumerate, builtins.reversed)
ELEMENTWISE = (
    F.leaky_relu, F.relu, F.silu, F.gelu, F.elu, F.mish, F.softplus, F.tanh, F.sigmoid, F.dropout,
    torch.relu, torch.tanh, torch.sigmoid, torch.sin, torch.cos, torch.exp, torch.abs, torch.clamp, torch.square,
    torch.pow, torch.sqrt, torch.rsqrt, torch.reciprocal, torch.add, torch.sub, torch.mul, torch.div,
)  # fmt: skip
LAYERS = (
    nn.LeakyReLU, nn.ReLU, nn.SiLU, nn.GELU, nn.ELU, nn.Mish, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Dropout,
)  # fmt: skip
CONTAINERS = (nn.Sequential, nn.ModuleList)
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
KNOWN_HOOKS = (ContiguousOutput, CompatWeightNorm, WeightNorm)


class _Unknown(Exception):
    pass


class _Checker:
    """Walks one forward; raises _Unknown at the first thing that is not on the list."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        self.module = module
        self.scope = getattr(function, "__globals__", {})
        self.layers: set[str] = set()  # loop variables that stand for layers

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            self.expression(node.value)
            for target in node.targets:
                self.target(target)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, OPERATORS):
            self.target(node.target)
            self.expression(node.value)
        elif isinstance(node, ast.For) and not node.orelse:
            self.loop(node)
        elif isinstance(node, ast.If):
            self.expression(node.test)
            for inner in (*node.body, *node.orelse):
                self.statement(inner)
        elif isinstance(node, ast.Return) and node.value is not None:
            self.expression(node.value)
        elif not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):  # a docstring
            raise _Unknown

    def target(self, node: ast.expr) -> None:
        if not isinstance(node, ast.Name) or node.id == "self":
            raise _Unknown
        self.layers.discard(node.id)

    def loop(self, node: ast.For) -> None:
        self.expression(node.iter)
        names = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
        over = [node.iter]
        if isinstance(node.iter, ast.Call):
            function = self.resolve(node.iter.func)
            over = node.iter.args if function is zip else []
            if function is enumerate and len(names) == 2:
                over = [ast.Constant(0), node.iter.args[0]]
        for i, name in enumerate(names):
            self.target(name)
            source = over[i] if i < len(over) else None
            if isinstance(name, ast.Name) and source is not None and self.is_layer_list(source):
                self.layers.add(name.id)
        for inner in node.body:
            self.statement(inner)

    def own(self, node: ast.expr) -> Any:
        """The value of `self.a.b`, _Unknown for anything else."""
        name = dotted(node)
        if name is None or not name.startswith("self."):
            raise _Unknown
        value: Any = self.module
        for part in name.split(".")[1:]:
            if isinstance(getattr(type(value), part, None), property):
                raise _Unknown
            value = getattr(value, part, None)
        return value

    def is_layer_list(self, node: ast.expr) -> bool:
        return dotted(node) is not None and isinstance(node, ast.Attribute) and isinstance(self.own(node), CONTAINERS)

    def resolve(self, node: ast.expr) -> Any:
        name = dotted(node)
        if name is None:
            return None
        first, *rest = name.split(".")
        value = self.scope.get(first, getattr(builtins, first, None))
        for part in rest:
            value = getattr(value, part, None)
        return value

    def call(self, node: ast.Call) -> None:
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.expression(argument)
        function = node.func
        if isinstance(function, ast.Subscript):
            if not self.is_layer_list(function.value):
                raise _Unknown
            self.expression(function.slice)
        elif isinstance(function, ast.Name) and function.id in self.layers:
            return
        elif isinstance(function, ast.Attribute) and (dotted(function) or "").startswith("self."):
            layer = self.own(function)
            if layer is not None and not isinstance(layer, nn.Module):  # None: it is not there, the branch cannot run
                raise _Unknown
        elif not any(self.resolve(function) is known for known in (*LOOPS, *ELEMENTWISE)):
            raise _Unknown
        if any(keyword.arg is None for keyword in node.keywords):
            raise _Unknown

    def expression(self, node: ast.expr) -> None:
        if isinstance(node, (ast.Name, ast.Constant)):
            return
        if isinstance(node, ast.Attribute):
            self.own(node)
        elif isinstance(node, ast.Call):
            self.call(node)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, OPERATORS):
            self.expression(node.left)
            self.expression(node.right)
        elif isinstance(node, ast.UnaryOp):
            self.expression(node.operand)
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                self.expression(value)
        elif isinstance(node, ast.Compare):
            for value in (node.left, *node.comparators):
                self.expression(value)
        elif isinstance(node, ast.IfExp):
            for value in (node.test, node.body, node.orelse):
                self.expression(value)
        else:
            raise _Unknown


def _is_blind(module: nn.Module, swapped: Callable[[nn.Module], bool]) -> bool:
    """Whether nothing in `module` can tell strides, and all its convolutions are ours."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    if type(module).__call__ is not nn.Module.__call__ or "forward" in vars(module):
        return False
    if not all(isinstance(hook, KNOWN_HOOKS) for hook in hooks):
        return False
    cls = user_class(module)
    if base_of(cls) is not None:
        return cls in CONVOLUTIONS and swapped(module)
    if cls in LAYERS:
        return True
    if cls not in CONTAINERS:
        function = inspect.unwrap(cls.forward)
        tree = tree_of(function)
        if tree is None or tree.decorator_list:
            return False
        checker = _Checker(module, function)
        try:
            for statement in tree.body:
                checker.statement(statement)
        except _Unknown:
            return False
    return all(_is_blind(child, swapped) for child in module.children())


def vocoders(model: nn.Module, swapped: Callable[[nn.Module], bool]) -> list[tuple[str, nn.Module]]:
    """The outermost modules with a ConvTranspose1d that are blind to strides; `swapped` says which layers are ours."""
    found: list[tuple[str, nn.Module]] = []
    inside: set[int] = set()
    kind = {id(m): base_of(type(m)) for m in model.modules()}
    if nn.ConvTranspose1d not in kind.values():
        return found
    edges = [(parent, child) for parent in model.modules() for child in parent.children()]
    for name, module in model.named_modules():
        if id(module) in inside or kind[id(module)] is not None or isinstance(module, nn.ModuleList):
            continue
        kinds = {kind[id(m)] for m in module.modules()}
        if nn.ConvTranspose1d not in kinds or nn.Conv1d not in kinds or not _is_blind(module, swapped):
            continue
        within = {id(m) for m in module.modules()}
        if any(id(c) in within and id(p) not in within and c is not module for p, c in edges):
            continue  # somebody else uses one of its layers
        found.append((name, module))
        inside |= within
    return found
