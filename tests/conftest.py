"""The tests' own modules (reference.py) are imported from here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
