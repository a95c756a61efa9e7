"""PyTorch's own suite (OpInfo) on the CPU and on the card: forward, backward, out=, in-place, aliasing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from on_card import CARD, assert_no_launch, tensors
from op_db import op_db
from reference import widened

TOLERANCE = {torch.float16: 5e-3, torch.bfloat16: 4e-2, torch.float64: 1e-10}
# Their values are drawn, or not set at all
RANDOM = (
    "normal",
    "rand",
    "uniform",
    "bernoulli",
    "multinomial",
    "dropout",
    "rrelu",
    "exponential",
    "cauchy",
    "geometric",
    "empty",
    "lowrank",
    "fractional_max_pool",
    "multi_head_attention",
)
WITHOUT_DEVICE = ("broadcast_shapes",)  # neither tensors nor a device among the arguments
OF_THE_CPU = ("tensor_split", "to")  # arguments that PyTorch wants on the CPU, or that name it
# What stays different, and why: (entry, dtypes or none for all) -> cause
KNOWN = {
    ("sparse_mm_reduce", ()): "PyTorch has no kernel of _sparse_mm_reduce_impl for CUDA on any card",
    (
        "renorm",
        ("complex64",),
    ): "PyTorch's gradient of renorm with the infinity norm is NaN on the CPU; on the card it is finite",
}
EVERY_SAMPLE = ("sparse_mm_reduce",)  # of KNOWN: the others pass where the sample that differs is not taken
OPS = {op.formatted_name: op for op in op_db}


class Difference(AssertionError):
    """The card and the CPU disagree."""


def mapped(value: Any, f: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return f(value)
    if isinstance(value, list):
        return [mapped(v, f) for v in value]
    if isinstance(value, tuple):
        items = [mapped(v, f) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, dict):
        return {k: mapped(v, f) for k, v in value.items()}
    return value


def copied(t: torch.Tensor, device: str = "cpu") -> torch.Tensor:
    """The same values with the same strides, offset and room around them."""
    if t.layout != torch.strided or t.is_conj() or t.is_neg():
        moved = t.detach().clone().to(device)
    else:
        whole = torch.empty(0, dtype=t.dtype).set_(t.detach().untyped_storage()).clone()
        moved = whole.to(device).as_strided(t.shape, t.stride(), t.storage_offset())
    return moved.requires_grad_(t.requires_grad)


def to_card(t: torch.Tensor) -> torch.Tensor:
    return copied(t, CARD)


class Sample:
    """One call of an op, as often as it takes, on either side."""

    def __init__(self, op: Any, sample: Any, dtype: torch.dtype) -> None:
        self.op, self.sample, self.dtype = op, sample, dtype
        self.random = any(word in op.name for word in RANDOM) or bool(sample.kwargs.get("dropout_p"))

    def arguments(self, f: Callable[[torch.Tensor], torch.Tensor], device: str) -> Any:
        """(input, the other positional arguments, keyword arguments), each tensor by way of `f`."""
        kwargs = mapped(dict(self.sample.kwargs), f)
        given = mapped(self.sample.input, f), mapped(tuple(self.sample.args), f)
        if self.op.name not in WITHOUT_DEVICE and ("device" in kwargs or not tensors([*given, kwargs])):
            kwargs["device"] = torch.device(device)
        return (*given, kwargs)

    def call(self, function: Any, arguments: Any, **more: Any) -> Any:
        torch.manual_seed(0)
        first, rest, kwargs = arguments
        return function(first, *rest, **kwargs, **more)

    def compare(self, want: Any, got: Any, what: str, wider: float = 1) -> None:
        wants, gots = tensors(want), tensors(got)
        if len(wants) != len(gots):
            raise Difference(f"{what}: {len(gots)} tensors, {len(wants)} on the CPU")
        for w, g in zip(wants, gots, strict=True):
            facts = [(t.shape, t.dtype, t.layout, t.requires_grad) for t in (w, g)]
            if facts[0] != facts[1] or g.device.type != CARD:
                raise Difference(f"{what}: {facts[1]} on {g.device}, on the CPU {facts[0]}")
            if w.layout == torch.strided and w.numel() > 1 and w.stride() != g.stride():
                raise Difference(f"{what}: strides {g.stride()}, on the CPU {w.stride()}")
            if self.random:
                continue
            limit = TOLERANCE.get(w.dtype, 1e-5) * wider
            a, b = w.detach(), g.detach().cpu()
            if a.layout != torch.strided:
                a, b = a.to_dense(), b.to_dense()
            try:
                torch.testing.assert_close(b, a, rtol=limit, atol=limit, equal_nan=True)
            except AssertionError as error:
                raise Difference(f"{what}: {' '.join(str(error).split())}") from None

    def check(self) -> None:
        cpu, card = self.arguments(copied, "cpu"), self.arguments(to_card, CARD)
        try:
            want = self.call(self.op, cpu)
        except Exception:
            return  # not a call that the CPU takes
        got = self.call(self.op, card)
        self.compare_results(want, got, "result")
        self.compare(cpu, card, "arguments")
        self.check_alias(cpu[0], want, card[0], got)
        self.check_backward(cpu, want, card, got)
        if self.op.supports_out and isinstance(want, torch.Tensor) and not self.random:
            self.check_out(want.detach())
        self.check_in_place()

    def compare_results(self, want: Any, got: Any, what: str) -> None:
        try:
            self.compare(want, got, what)
        except Difference:
            if not self.as_accurate_as_cpu(want, got):
                raise

    def as_accurate_as_cpu(self, want: Any, got: Any) -> bool:
        """By the result in float64: the CPU rounds in an order of its own, in half precision between steps as well."""
        if self.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.complex64):
            return False
        exact = tensors(self.call(self.op, self.arguments(lambda t: widened(t.detach()), "cpu")))

        def error(sides: Any) -> float:
            pairs = zip(tensors(sides), exact, strict=True)
            return max((widened(t.detach().cpu()) - e).abs().max().item() for t, e in pairs)

        largest = max((e.abs().max().item() for e in exact if e.numel()), default=0.0)
        return error(got) <= 2 * error(want) + torch.finfo(self.dtype).eps * largest

    def check_alias(self, cpu: Any, want: Any, card: Any, got: Any) -> None:
        sides = (cpu, want), (card, got)
        if not all(isinstance(t, torch.Tensor) and t.layout == torch.strided and t.numel() for s in sides for t in s):
            return
        aliases = [a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() for a, b in sides]
        if aliases[0] != aliases[1]:
            raise Difference(f"result aliases its input: {aliases[1]}, on the CPU {aliases[0]}")

    def check_backward(self, cpu: Any, want: Any, card: Any, got: Any) -> None:
        outputs = [[t for t in tensors(side) if t.requires_grad] for side in (want, got)]
        inputs = [[t for t in tensors(side) if t.requires_grad] for side in (cpu, card)]
        if not outputs[0] or not inputs[0]:
            return

        def gradients(side: int) -> list[torch.Tensor | None]:
            sums = [t.abs().sum() if t.is_complex() else t.sum() for t in outputs[side]]
            return list(torch.autograd.grad(sums, inputs[side], allow_unused=True))

        try:
            wanted = gradients(0)
        except Exception:
            return
        given = gradients(1)
        if [g is None for g in wanted] != [g is None for g in given]:
            raise Difference("backward: other inputs have gradients")
        self.compare([g for g in wanted if g is not None], [g for g in given if g is not None], "gradient", wider=10)

    def check_out(self, want: torch.Tensor) -> None:
        kinds: dict[str, Callable[[str], torch.Tensor]] = {
            "of the right size": lambda device: torch.zeros_like(want, device=device),
            "to be resized": lambda device: torch.empty(0, dtype=want.dtype, device=device),
            "with strides": lambda device: torch.zeros(*want.shape, 2, dtype=want.dtype, device=device)[..., 0],
        }
        for kind, make in kinds.items():
            with torch.no_grad():
                cpu = self.arguments(lambda t: copied(t).detach(), "cpu")
                card = self.arguments(lambda t: to_card(t).detach(), CARD)
                outs = make("cpu"), make(CARD)
                try:
                    self.call(self.op, cpu, out=outs[0])
                except Exception:
                    continue
                result = self.call(self.op, card, out=outs[1])
                if result is not outs[1]:
                    raise Difference(f"out= {kind}: the result is another tensor")
                self.compare_results(outs[0], outs[1], f"out= {kind}")

    def check_in_place(self) -> None:
        function = self.op.get_inplace()
        if function is None or self.random or not isinstance(self.sample.input, torch.Tensor):
            return
        for strided in (False, True):
            with torch.no_grad():
                cpu = self.arguments(lambda t: copied(t).detach(), "cpu")
                card = self.arguments(lambda t: to_card(t).detach(), CARD)
                room = torch.zeros(*cpu[0].shape, 2, dtype=cpu[0].dtype)
                if strided:
                    room[..., 1] = cpu[0]
                    on_card = room.to(CARD)
                    cpu, card = (room[..., 1], *cpu[1:]), (on_card[..., 1], *card[1:])
                try:
                    self.call(function, cpu)
                except Exception:
                    continue
                if self.call(function, card) is not card[0]:
                    raise Difference("in-place: the result is another tensor")
                self.compare(room if strided else cpu[0], on_card if strided else card[0], "in-place")


def samples(op: Any, dtype: torch.dtype, most: int) -> Iterator[Sample]:
    """At most `most` samples, spread over those that OpInfo has."""
    grad = op.supports_autograd and (dtype.is_floating_point or dtype.is_complex)
    torch.manual_seed(0)
    found = list(op.sample_inputs("cpu", dtype, requires_grad=grad))
    step = max(1.0, len(found) / most)
    for i in range(min(most, len(found))):
        yield Sample(op, found[int(i * step)], dtype)


def check(name: str, dtype: torch.dtype, most: int = 8) -> int:
    """Checks an op; returns the number of samples. No kernel of PyTorch may have been started."""
    ran = 0
    for sample in samples(OPS[name], dtype, most):
        sample.check()
        ran += 1
    assert_no_launch()
    return ran


def known(name: str, dtype: torch.dtype) -> str | None:
    """Why an entry cannot be clean, if so."""
    for (op, dtypes), cause in KNOWN.items():
        if op == name and (not dtypes or str(dtype).removeprefix("torch.") in dtypes):
            return cause
    return None


def ops_with(dtype: torch.dtype) -> list[str]:
    return [name for name, op in OPS.items() if dtype in op.dtypes and op.name not in OF_THE_CPU]
