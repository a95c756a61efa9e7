"""Runs your PyTorch model on an NVIDIA GPU that your PyTorch wheel has no kernels for, and faster on the CPU."""

from blackwell_compat import _load  # noqa: F401  (first: it loads torch's libraries, then _C)
from blackwell_compat.doctor import doctor, stats
from blackwell_compat.fallback import (
    FallbackReport,
    coverage,
    disable,
    enable,
    enabled,
    fallbacks,
    invalidate,
    is_enabled,
    reset_fallbacks,
    set_host_cache,
)
from blackwell_compat.kernels import warmup
from blackwell_compat.lazy import lazy_upload, set_lazy_upload
from blackwell_compat.ops import flops  # noqa: F401  (tells torch.utils.flop_counter)
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
from blackwell_compat.precision import (
    DeviceDefaults,
    Policy,
    PrecisionReport,
    autocast,
    calibrate,
    device_defaults,
    precision_report,
    suggest_policy,
)

__all__ = [
    "DeviceDefaults",
    "FallbackReport",
    "NotAvailable",
    "PatchReport",
    "Policy",
    "PrecisionReport",
    "autocast",
    "calibrate",
    "compat_conv1d",
    "compat_conv_transpose1d",
    "compat_linear",
    "coverage",
    "device_defaults",
    "disable",
    "doctor",
    "enable",
    "enabled",
    "fallbacks",
    "invalidate",
    "is_enabled",
    "istft_fp32",
    "lazy_upload",
    "patch_model",
    "patched",
    "precision_report",
    "reset_fallbacks",
    "set_host_cache",
    "set_lazy_upload",
    "stats",
    "stft_fp32",
    "suggest_policy",
    "to_channels_last_1d",
    "unpatch_model",
    "warmup",
]
