"""The tests' own modules (reference.py, opinfo.py, fakecard/) are imported from here; a session ends with its OpInfo
samples. pytest --card="RTX 5090" --wheel=2.4.1 starts itself again in that wheel's environment, under a fake card.
"""

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fakecard
import pytest

ON_ANY_CARD = re.compile(r"test_(\w+_kernel|kernel_models|gpu_benchmarks)\.py")  # fake or real


def pytest_addoption(parser):
    group = parser.getgroup("fake card")
    group.addoption(
        "--card", action="append", help="a card of tests/fakecard/cards.toml; several times for several cards"
    )
    group.addoption("--wheel", default="2.4.1", help="torch of make wheel-<version>; cuda12, cuda13: none, stay here")
    parser.addoption("--gpu", action="store_true", help="what can run on this machine's own card runs there")
    parser.addoption(
        "--checked", action="store_true", help="kernels run in the emulator's checked build: races, out of bounds"
    )


def pytest_cmdline_main(config):
    if config.getoption("--checked"):
        os.environ["EMULATOR_CHECKED"] = "1"
    chosen, wheel = config.getoption("--card"), config.getoption("--wheel")
    if not chosen or fakecard.here():
        return
    arguments = list(config.invocation_params.args)
    if config.args_source is not config.ArgsSource.ARGS:
        arguments.append(str(Path(__file__).parent / "card"))
    try:
        if wheel in ("cuda12", "cuda13"):
            python, environment = sys.executable, fakecard.environment(chosen, cuda=int(wheel[-2:]))
        else:
            python, environment = str(fakecard.wheel_python(wheel)), fakecard.environment(chosen, wheel)
    except (KeyError, FileNotFoundError, ValueError) as error:
        raise pytest.UsageError(error.args[0]) from None
    config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
    os.execve(python, [python, "-m", "pytest", *arguments], environment)


def pytest_ignore_collect(collection_path, config):
    """What needs a card is for a process that has one."""
    needs_card = collection_path.parent.name in ("card", "fakecard") and collection_path.name.startswith("test_")
    if not needs_card or fakecard.here() or (config.getoption("--gpu") and ON_ANY_CARD.fullmatch(collection_path.name)):
        return None
    return True


@pytest.fixture(autouse=fakecard.here())
def fresh_card():
    """Every test starts with counters at zero, no faults and no open capture, and leaves none behind."""
    fakecard.reset()
    yield
    fakecard.reset()


def pytest_report_header(config):
    return f"fake cards: {', '.join(card['name'] for card in fakecard.cards_here())}" if fakecard.here() else None


def pytest_sessionfinish(session):
    """A worker of several hands over the OpInfo samples that it counted."""
    if hasattr(session.config, "workeroutput") and "opinfo" in sys.modules:
        session.config.workeroutput["opinfo"] = [(*key, count) for key, count in sys.modules["opinfo"].RAN.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    counted = getattr(node, "workeroutput", {}).get("opinfo", [])
    if counted:
        import opinfo

        for name, kind, count in counted:
            opinfo.RAN[name, kind] += count


def pytest_terminal_summary(terminalreporter):
    opinfo = sys.modules.get("opinfo")
    for line in opinfo.summary() if opinfo else []:
        terminalreporter.write_line(line)
