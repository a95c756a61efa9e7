"""The tests' own modules (reference.py, opinfo.py) are imported from here; the end of a session counts OpInfo's samples."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def pytest_terminal_summary(terminalreporter):
    opinfo = sys.modules.get("opinfo")
    for line in opinfo.summary() if opinfo else []:
        terminalreporter.write_line(line)
