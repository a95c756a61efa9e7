"""patch_model: patch.py does it, rules.py decides, classes.py swaps, fold.py keeps weight_norm's product."""

from blackwell_compat.patching.channels_last import to_channels_last_1d
from blackwell_compat.patching.modes import NotAvailable
from blackwell_compat.patching.patch import patch_model, patched, unpatch_model
from blackwell_compat.patching.report import PatchReport

__all__ = ["NotAvailable", "PatchReport", "patch_model", "patched", "to_channels_last_1d", "unpatch_model"]
