"""What the tests of layers' ops share."""

import torch
from torch.nn import functional as F

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
}


def rows(x):
    """The same values in strides (C * L, 1, C)."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


# Signals (N, C, L), and weights
STRIDED_SIGNALS = {
    "part of a longer signal": lambda x: torch.cat([x, x], -1)[..., 3 : 3 + x.size(-1)],
    "part of the channels": lambda x: torch.cat([x, x], -2)[..., 1 : 1 + x.size(-2), :],
    "every other sample": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "every other channel": lambda x: x.repeat_interleave(2, -2)[..., ::2, :],
    "every other of the batch": lambda x: x.repeat_interleave(2, 0)[::2],
    "channels last": rows,
    "part of channels last": lambda x: rows(torch.cat([x, x], -1))[..., 3 : 3 + x.size(-1)],
    "part of the channels of channels last": lambda x: rows(torch.cat([x, x], 1))[:, 1 : 1 + x.size(1)],
    "batch in the middle": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "all axes reversed": lambda x: x.permute(2, 1, 0).contiguous().permute(2, 1, 0),
}
