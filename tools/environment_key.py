"""Print a folder name for the torch installation of this interpreter: it changes when that torch is replaced."""

import hashlib
import sys
from importlib.metadata import distribution
from pathlib import Path

torch = distribution("torch")
installed = Path(str(torch.locate_file("torch/version.py"))).stat().st_mtime_ns
print(f"torch-{torch.version}-{hashlib.sha1(f'{sys.prefix} {installed}'.encode()).hexdigest()[:8]}")
