"""PyTorch's list of its operators with samples of their arguments (OpInfo)."""

import importlib.util
import sys
import unittest
from types import ModuleType

if importlib.util.find_spec("expecttest") is None:  # its class stands beside the list, which does not need it
    stub = ModuleType("expecttest")
    stub.TestCase = unittest.TestCase
    sys.modules["expecttest"] = stub

from torch.testing._internal.common_methods_invocations import op_db

__all__ = ["op_db"]
