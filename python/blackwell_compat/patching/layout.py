"""Channels-last-1d: a (N, C, L) tensor with strides (C * L, 1, C), the memory format PyTorch lacks for Conv1d."""

from __future__ import annotations

import torch


def has_channels_last_1d(t: torch.Tensor) -> bool:
    n, c, length = t.shape
    return t.stride(1) == 1 and t.stride(2) == c and (n == 1 or t.stride(0) == c * length)


def channels_last_1d(input: torch.Tensor) -> torch.Tensor:
    """`input` in that format where it has a batch and the format is not the contiguous one; else as it is."""
    if input.dim() != 3 or input.size(1) == 1 or input.size(2) == 1 or has_channels_last_1d(input):
        return input
    return input.transpose(1, 2).contiguous().transpose(1, 2)


def tensor_to_channels_last_1d(input: torch.Tensor) -> torch.Tensor:
    """The same values with exactly the strides (C * L, 1, C); `input` itself where it has them."""
    if input.dim() != 3:
        raise ValueError(
            f"to_channels_last_1d: the tensor must be 3-D (N, C, L), got {input.dim()}-D of shape {tuple(input.shape)}"
        )
    _, c, length = input.shape
    wanted = (c * length, 1, c)
    if input.stride() == wanted:
        return input
    moved = input.transpose(1, 2).contiguous().transpose(1, 2)
    # contiguous() leaves the stride of a dimension of size 1 as it was
    return moved if moved.stride() == wanted else moved.as_strided(moved.shape, wanted)
