"""Runs the samples of PyTorch's own suite (OpInfo) against our ops, and counts them; conftest.py prints the counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import reference
import torch
from op_db import op_db

RAN: Counter[tuple[str, str]] = Counter()  # (OpInfo, "forward" | "backward" | "error") -> samples that passed


def named(name: str) -> Any:
    """PyTorch's description of its operator `name`."""
    return next(op for op in op_db if op.name == name)


def ran(name: str, kind: str) -> None:
    RAN[name, kind] += 1


def summary() -> list[str]:
    """Lines for the end of the session."""
    names = dict.fromkeys(name for name, _ in RAN)
    return [
        f"OpInfo: {sum(n for (of, _), n in RAN.items() if of == name)} samples of {name} passed "
        f"({', '.join(f'{RAN[name, kind]} {kind}' for kind in ('forward', 'backward', 'error') if RAN[name, kind])})"
        for name in names
    ]


def check_samples(name: str, ours: Callable[..., torch.Tensor], dtype: torch.dtype) -> None:
    """Forward of every sample with and without grad, backward to every argument that takes one."""
    op = named(name)
    for requires_grad in (False, True) if dtype.is_floating_point else (False,):
        torch.manual_seed(0)
        for sample in op.sample_inputs("cpu", dtype, requires_grad=requires_grad):
            args = (sample.input, *sample.args)
            got, peer = (f(*args, **sample.kwargs) for f in (ours, op.op))
            wide = [reference.widened(a.detach()) if isinstance(a, torch.Tensor) else a for a in args]
            inputs = [w.requires_grad_(a.requires_grad) for w, a in zip(wide, args, strict=True) if is_tensor(a)]
            want = op.op(*wide, **sample.kwargs)
            if not dtype.is_floating_point:
                assert torch.equal(got, peer)
                ran(name, "forward")
                continue
            reference.assert_as_accurate(got.detach(), peer.detach(), want.detach())
            ran(name, "forward")
            if not requires_grad:
                continue
            leaves = [a for a in args if is_tensor(a)]
            seed = reference.values(*got.shape, dtype=dtype, seed=1)
            for grads in zip(
                torch.autograd.grad(got, leaves, seed),
                torch.autograd.grad(peer, leaves, seed),
                torch.autograd.grad(want, inputs, seed.double()),
                strict=True,
            ):
                reference.assert_as_accurate(*grads)
            ran(name, "backward")


def check_errors(name: str, ours: Callable[..., torch.Tensor]) -> None:
    """Each wrong call that PyTorch refuses is refused with the same exception, in words that its pattern matches."""
    for error in named(name).error_inputs("cpu"):
        sample = error.sample_input
        with pytest.raises(error.error_type, match=error.error_regex) as raised:
            ours(sample.input, *sample.args, **sample.kwargs)
        assert re.match("(compat|stft|istft)_", str(raised.value)), raised.value
        ran(name, "error")


def is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
