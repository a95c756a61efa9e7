"""Runs your PyTorch model on an NVIDIA GPU that your PyTorch wheel has no kernels for, and faster on the CPU."""

import torch  # noqa: F401  (its libraries have to be loaded before _C)

from blackwell_compat.ops.conv1d import compat_conv1d
from blackwell_compat.ops.conv_transpose1d import compat_conv_transpose1d
from blackwell_compat.ops.istft import istft_fp32
from blackwell_compat.ops.linear import compat_linear
from blackwell_compat.ops.stft import stft_fp32
from blackwell_compat.patching import (
    NotAvailable,
    PatchReport,
    patch_model,
    patched,
    to_channels_last_1d,
    unpatch_model,
)

__all__ = [
    "NotAvailable",
    "PatchReport",
    "compat_conv1d",
    "compat_conv_transpose1d",
    "compat_linear",
    "istft_fp32",
    "patch_model",
    "patched",
    "stft_fp32",
    "to_channels_last_1d",
    "unpatch_model",
]
