"""What reports print as."""

from __future__ import annotations

import io
import shutil
from typing import Any


def as_text(report: Any, plain: str, width: int = 100) -> str:
    """A report's table as wide as the terminal, at least `width` columns; `plain` where rich is not installed."""
    try:
        from rich.console import Console
    except ImportError:
        return plain
    out = io.StringIO()
    Console(file=out, width=max(width, shutil.get_terminal_size((120, 24)).columns)).print(report)
    return out.getvalue().rstrip()
