"""The classes that a patched layer gets. Object, parameters and hooks stay; what forward calls is ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import nn

from blackwell_compat.ops.conv1d import compat_conv1d
from blackwell_compat.ops.conv_transpose1d import compat_conv_transpose1d
from blackwell_compat.ops.linear import compat_linear
from blackwell_compat.patching.fold import weight_of
from blackwell_compat.patching.layout import channels_last_1d

Ops: Any = torch.ops.blackwell_compat


def is_ours(module: Any, input: Any) -> bool:
    """Whether our ops take this input of a patched layer. The rest is PyTorch's: other devices, layouts, integers,
    complex numbers, and what is no tensor."""
    if not isinstance(input, torch.Tensor) or not isinstance(module, PATCHED):
        return False
    here = input.is_cpu or (module._compat_on_card and input.is_cuda)
    return here and input.is_floating_point() and not input.is_nested and input.layout is torch.strided


def by_torch(cls: type[nn.Module], module: nn.Module, *args: Any) -> Any:
    """What PyTorch makes of a call of `cls.forward` that is not ours."""
    if not isinstance(module, cls):  # the layer has its own class back: hooks of accelerate and diffusers kept forward
        return type(module).forward(module, *args)
    if isinstance(args[0], torch.fx.Proxy) and type(module).forward is cls.forward:
        tracer: Any = args[0].tracer  # layers of torch.nn are nodes of its graph
        return tracer.create_proxy("call_module", tracer.path_of_module(module), args, {})
    return super(cls, module).forward(*args)  # type: ignore[misc]


def refuse_script(module: nn.Module) -> NoReturn:
    """What torch.jit.script asks each module for first."""
    raise RuntimeError(
        f"torch.jit.script: {type(module).__name__} is patched, which TorchScript cannot compile; call unpatch_model "
        "first, or take torch.jit.trace, torch.export or torch.compile, which know patched models"
    )


def only_packed(module: nn.Module) -> torch.Tensor | None:
    """The packed weight of a layer that has no other (freed.py)."""
    packed: torch.Tensor | None = module._compat_packed  # type: ignore[assignment]
    # A parameter may stand in for it: torch.func.functional_call
    return packed if module._parameters.get("weight") is None else None


def linear_only_packed(module: Any, input: torch.Tensor, packed: torch.Tensor, n: int, k: int) -> torch.Tensor:
    if input.dim() == 0 or input.size(-1) != k:
        return compat_linear(input, packed.new_empty(n, k), module.bias)  # raises, with the sizes of input and weight
    return Ops.compat_linear_packed(input, packed, module.bias, n)  # type: ignore[no-any-return]


def across(
    op: Callable[..., torch.Tensor],
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *options: Any,
) -> torch.Tensor:
    """`op` for an input on a card and a weight that is not there any more; the result is on the card."""
    wants_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias))
    low = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
    if low is None and not wants_grad and not torch.compiler.is_compiling():
        return op(input, weight, bias, *options)
    # By copies, which autograd, torch.compile and autocast know
    with torch.autocast("cuda", enabled=False):
        on_cpu = input.cpu() if low is None else input.to("cpu", weight.dtype)
        bias_there = None if bias is None else bias.cpu()
        return op(on_cpu, weight, bias_there, *options).to(input.device, low)


class CompatLinear(nn.Linear):
    """nn.Linear over compat_linear."""

    _compat_on_card = False  # mode hybrid sets it on the layer (hybrid.py)
    _compat_packed: torch.Tensor | None = None  # free_original sets it on the layer (freed.py)
    _compat_size: tuple[int, ...]

    __prepare_scriptable__ = refuse_script

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if is_ours(self, input):
            packed = only_packed(self)
            if packed is not None:
                return linear_only_packed(self, input, packed, self._compat_size[0], self._compat_size[1])
            weight = weight_of(self)
            if input.is_cuda and weight.is_cpu:
                return across(compat_linear, input, weight, self.bias)
            return compat_linear(input, weight, self.bias)
        return by_torch(CompatLinear, self, input)  # type: ignore[no-any-return]


class CompatConv1d(nn.Conv1d):
    """nn.Conv1d over compat_conv1d."""

    _compat_on_card = False
    _compat_channels_last = False  # to_channels_last_1d sets it on the layer
    _compat_packed: torch.Tensor | None = None
    _compat_size: tuple[int, ...]
    _compat_options: tuple[int, ...]

    __prepare_scriptable__ = refuse_script

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not is_ours(self, input):
            return by_torch(CompatConv1d, self, input)  # type: ignore[no-any-return]
        weight = weight_of(self) if only_packed(self) is None else None
        return self._by_ours(input, weight, self.bias)

    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None
    ) -> torch.Tensor:
        if not is_ours(self, input):
            return super()._conv_forward(input, self.weight if weight is None else weight, bias)  # type: ignore[no-any-return]
        return self._by_ours(input, weight, bias)

    def _by_ours(self, input: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        if self._compat_channels_last:
            input = channels_last_1d(input)
        if weight is None:
            return self._only_packed(input, bias, padding)
        options = (self.stride, padding, self.dilation, self.groups)
        if input.is_cuda and weight.is_cpu:
            return across(compat_conv1d, input, weight, bias, *options)
        return compat_conv1d(input, weight, bias, *options)

    def _only_packed(self, input: torch.Tensor, bias: torch.Tensor | None, padding: Any) -> torch.Tensor:
        if self._compat_options != (self.dilation[0], self.groups):
            self._compat_repack()  # type: ignore[operator]
        if isinstance(padding, str):
            # "same" pads on the right where the two sides cannot be equal, as torch does
            total = self.dilation[0] * (self.kernel_size[0] - 1) if padding == "same" else 0
            padding = (total // 2,)
            if total % 2:
                input = F.pad(input, (0, 1))
        elif isinstance(padding, int):
            padding = (padding,)
        return Ops.compat_conv1d_packed(  # type: ignore[no-any-return]
            input, self._compat_packed, bias, self._compat_size, self.stride, padding, self.dilation, self.groups
        )


class CompatConvTranspose1d(nn.ConvTranspose1d):
    """nn.ConvTranspose1d over compat_conv_transpose1d."""

    _compat_on_card = False
    _compat_channels_last = False
    _compat_packed: torch.Tensor | None = None
    _compat_size: tuple[int, ...]
    _compat_options: tuple[int, ...]

    __prepare_scriptable__ = refuse_script

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        if not is_ours(self, input) or self.padding_mode != "zeros":
            return by_torch(CompatConvTranspose1d, self, input, output_size)  # type: ignore[no-any-return]
        output_padding = self._output_padding(
            input, output_size, self.stride, self.padding, self.kernel_size, 1, self.dilation  # type: ignore[arg-type]
        )  # fmt: skip
        if self._compat_channels_last:
            input = channels_last_1d(input)
        padding: Any = self.padding
        if only_packed(self) is not None:
            if self._compat_options != (self.stride[0],):
                self._compat_repack()  # type: ignore[operator]
            return Ops.compat_conv_transpose1d_packed(  # type: ignore[no-any-return]
                input, self._compat_packed, self.bias, self._compat_size, self.stride, padding, output_padding,
                self.groups, self.dilation,
            )  # fmt: skip
        weight = weight_of(self)
        options = (self.stride, padding, output_padding, self.groups, self.dilation)
        if input.is_cuda and weight.is_cpu:
            return across(compat_conv_transpose1d, input, weight, self.bias, *options)
        return compat_conv_transpose1d(input, weight, self.bias, *options)


class CompatTransposedLinear(nn.Module):
    """transformers' Conv1D, a linear with its weight stored (in, out). Comes before the class itself (classes.py)."""

    _compat_on_card = False
    _compat_packed: torch.Tensor | None = None
    _compat_size: tuple[int, ...]

    __prepare_scriptable__ = refuse_script

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if is_ours(self, x):
            packed = only_packed(self)
            if packed is not None:
                return linear_only_packed(self, x, packed, self._compat_size[1], self._compat_size[0])
            weight: Any = self.weight
            bias: Any = self.bias
            if x.is_cuda and weight.is_cpu:
                return across(compat_linear, x, weight.t(), bias)
            return compat_linear(x, weight.t(), bias)
        return by_torch(CompatTransposedLinear, self, x)  # type: ignore[no-any-return]


PATCHED = (CompatLinear, CompatConv1d, CompatConvTranspose1d, CompatTransposedLinear)
