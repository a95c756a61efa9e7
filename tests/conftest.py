"""The tests' own modules (reference.py, opinfo.py, fakecard/) are imported from here; a session ends with its OpInfo samples.

pytest --card="RTX 5090" --wheel=2.4.1 starts itself again in that wheel's environment, with the fake card (tests/fakecard).
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fakecard


def pytest_addoption(parser):
    group = parser.getgroup("fake card")
    group.addoption(
        "--card", action="append", help="a card of tests/fakecard/cards.toml; several times for several cards"
    )
    group.addoption("--wheel", default="2.4.1", help="version of torch, installed by make wheel-<version>")


def pytest_cmdline_main(config):
    chosen, wheel = config.getoption("--card"), config.getoption("--wheel")
    if not chosen or fakecard.here():
        return
    arguments = list(config.invocation_params.args)
    if config.args_source is not config.ArgsSource.ARGS:
        arguments.append(str(Path(__file__).parent / "card"))
    python, environment = str(fakecard.wheel_python(wheel)), fakecard.environment(chosen, wheel)
    config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
    os.execve(python, [python, "-m", "pytest", *arguments], environment)


def pytest_report_header(config):
    if fakecard.here():
        return f"fake card: {os.environ['FAKECARD_CARDS']}"


def pytest_terminal_summary(terminalreporter):
    opinfo = sys.modules.get("opinfo")
    for line in opinfo.summary() if opinfo else []:
        terminalreporter.write_line(line)
