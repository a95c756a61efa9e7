"""bfloat16 or float16 where it is safe, float32 where it must be: by op, and by module."""

from blackwell_compat.precision.calibrate import calibrate
from blackwell_compat.precision.context import autocast
from blackwell_compat.precision.defaults import DeviceDefaults, device_defaults
from blackwell_compat.precision.policy import Policy
from blackwell_compat.precision.report import PrecisionReport, precision_report
from blackwell_compat.precision.suggest import suggest_policy

__all__ = [
    "DeviceDefaults",
    "Policy",
    "PrecisionReport",
    "autocast",
    "calibrate",
    "device_defaults",
    "precision_report",
    "suggest_policy",
]
