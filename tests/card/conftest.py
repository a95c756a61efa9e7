"""The fallback, this package's kernels, and other packages, for the test files that ask for them."""

import contextlib
import os
import subprocess
import sys

import emulator
import entering
import fakecard
import pytest
import torch

OWN_PROCESS = "BLACKWELL_COMPAT_TEST_IN_ITS_OWN_PROCESS"


def pytest_configure(config):
    config.addinivalue_line("markers", "own_process: in a process where no test loaded any kernel before")


def pytest_pyfunc_call(pyfuncitem):
    if pyfuncitem.get_closest_marker("own_process") is None or OWN_PROCESS in os.environ:
        return None
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    done = subprocess.run(
        command, cwd=pyfuncitem.config.rootpath, env=os.environ | {OWN_PROCESS: "1"}, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return True


@pytest.fixture(autouse=True)
def default_stream_stays_current():
    """A test that left another stream current would let the next ones race."""
    yield
    assert not torch.cuda.is_initialized() or torch.cuda.current_stream() == torch.cuda.default_stream()


@pytest.fixture(scope="module")
def fallback():
    """Every op of the card on the CPU, for a module; afterwards the dispatcher is as it was."""
    import blackwell_compat as bc

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLACKWELL_COMPAT_FALLBACK", "silent")
        with bc.enabled():
            yield bc


@pytest.fixture(scope="module")
def lazy_fallback():
    """The same; results stay on the host until something on the card asks for them."""
    import blackwell_compat as bc

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLACKWELL_COMPAT_FALLBACK", "silent")
        patch.setenv("BLACKWELL_COMPAT_LAZY", "1")
        with bc.enabled():
            yield bc


@pytest.fixture(scope="module")
def our_kernels():
    """This package's kernels on card 0, also where PyTorch has its own; the emulator runs them on a fake card."""
    from blackwell_compat import _C, kernels

    with contextlib.ExitStack() as undo:
        if fakecard.here():
            emulator.install()
            undo.callback(emulator.uninstall)
            undo.callback(kernels.forget)
            kernels.forget()
        reason = kernels.examine(torch.device("cuda", 0))
        if reason is not None and "compiles" in reason:
            pytest.skip(f"{reason}; BLACKWELL_COMPAT_NVRTC=<one that knows this card> would end this skip")
        assert reason is None, reason
        before = _C.kernels_serve(0)
        undo.callback(_C.kernels_set_serve, 0, before)
        _C.kernels_set_serve(0, True)
        yield kernels


@pytest.fixture
def chosen(our_kernels):
    """They stand over the fallback, as mode kernel puts them."""
    import blackwell_compat as bc

    card = torch.device("cuda", 0)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as undo:
        patch.setenv("BLACKWELL_COMPAT_FALLBACK", "silent")
        undo.enter_context(bc.enabled(card, force=True))
        our_kernels.choose(card)
        undo.callback(our_kernels.choose, card, False)
        yield our_kernels


@pytest.fixture
def enter(monkeypatch):
    """entering.enter("a", "a.b") for a test, which is skipped where they are missing."""
    entered = []

    def enter(*packages, stubs=()):
        try:
            entering.enter(lambda name, module: monkeypatch.setitem(sys.modules, name, module), packages, stubs)
        except ModuleNotFoundError as error:
            pytest.skip(f"{error}: make wheel-<version> installs it")
        entered.extend(packages)

    yield enter
    for name in [name for name in sys.modules if name.partition(".")[0] in entered]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def exact_products():
    """No TF32 in convolutions, where PyTorch takes it unless told otherwise. Its test suite freezes the public flag."""
    before = torch._C._get_cudnn_allow_tf32()
    torch._C._set_cudnn_allow_tf32(False)
    yield
    torch._C._set_cudnn_allow_tf32(before)


@pytest.fixture
def drawn_on_the_cpu(monkeypatch):
    """Random numbers from the CPU's generator on both sides, which otherwise draw their own."""

    def replace(name):
        original = getattr(torch, name)

        def draw(*args, device=None, **kwargs):
            target = device or (args[0].device if name.endswith("_like") else "cpu")
            given = [a.cpu() if isinstance(a, torch.Tensor) else a for a in args]
            return original(*given, device="cpu", **kwargs).to(target)

        monkeypatch.setattr(torch, name, draw)

    for name in ("rand", "randn", "rand_like", "randn_like"):
        replace(name)
