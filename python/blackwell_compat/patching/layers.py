"""The classes that a patched layer gets. Object, parameters and hooks stay; what forward calls is ours."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from blackwell_compat.ops.conv1d import compat_conv1d
from blackwell_compat.ops.conv_transpose1d import compat_conv_transpose1d
from blackwell_compat.ops.linear import compat_linear
from blackwell_compat.patching.fold import weight_of
from blackwell_compat.patching.layout import channels_last_1d


def is_ours(input: torch.Tensor) -> bool:
    """Whether our ops take this input. The rest is PyTorch's: other devices, layouts, integers, complex numbers."""
    return input.is_cpu and input.is_floating_point() and not input.is_nested and input.layout is torch.strided


class CompatLinear(nn.Linear):
    """nn.Linear over compat_linear."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if is_ours(input):
            return compat_linear(input, weight_of(self), self.bias)
        return super().forward(input)


class CompatConv1d(nn.Conv1d):
    """nn.Conv1d over compat_conv1d."""

    _compat_channels_last = False  # to_channels_last_1d sets it on the layer

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(input, weight_of(self), self.bias)

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if not is_ours(input):
            return super()._conv_forward(input, weight, bias)  # type: ignore[no-any-return]
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        if self._compat_channels_last:
            input = channels_last_1d(input)
        return compat_conv1d(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class CompatConvTranspose1d(nn.ConvTranspose1d):
    """nn.ConvTranspose1d over compat_conv_transpose1d."""

    _compat_channels_last = False

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        if not is_ours(input) or self.padding_mode != "zeros":
            return super().forward(input, output_size)
        output_padding = self._output_padding(
            input, output_size, self.stride, self.padding, self.kernel_size, 1, self.dilation  # type: ignore[arg-type]
        )  # fmt: skip
        if self._compat_channels_last:
            input = channels_last_1d(input)
        padding: Any = self.padding
        return compat_conv_transpose1d(
            input, weight_of(self), self.bias, self.stride, padding, output_padding, self.groups, self.dilation
        )


class CompatTransposedLinear(nn.Module):
    """transformers' Conv1D, a linear with its weight stored (in, out). Comes before the class itself (classes.py)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if is_ours(x):
            weight: Any = self.weight
            bias: Any = self.bias
            return compat_linear(x, weight.t(), bias)
        return super().forward(x)  # type: ignore[no-any-return]


PATCHED = (CompatLinear, CompatConv1d, CompatConvTranspose1d, CompatTransposedLinear)
