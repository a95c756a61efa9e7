"""A kernel that NVRTC compiles and PyTorch's stream launches computes: the emulator runs the same source."""

import ctypes
import struct
from pathlib import Path

import emulator
import fakecard
import pytest
import torch
from fakecard.api import call, error_of, made
from test_kernels import CARD, compiled, fits

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "tests" / "emulator" / "kernels"
LAUNCH_FAILED = 719


def compiled_file(name, architecture):
    folders = [b"-I" + bytes(folder) for folder in (ROOT / "csrc", KERNELS)]
    return compiled(architecture, KERNELS.joinpath(name).read_bytes(), *folders)


def loaded(architecture):
    """basic.cu as the card's driver loads it."""
    code = compiled_file("basic.cu", architecture)
    torch.empty(1, device="cuda")  # makes the context
    return made("cuModuleLoadData", code)


@pytest.fixture(scope="module")
def module():
    architecture = next((it for it in ("compute_75", "compute_50") if fits(it)), None)
    try:
        it = loaded(architecture) if architecture else None
    except AssertionError:
        it = None
    if it is None:
        pytest.skip(f"the NVRTC of this wheel compiles nothing for a {CARD['name']}")
    assert "test_add_one" in emulator.install(sources=KERNELS)
    yield it
    emulator.uninstall()


def launch(module, name, x, y, n, shared_bytes=0, stream=0):
    params = ctypes.create_string_buffer(struct.pack("<QQi4x", x.data_ptr(), y.data_ptr(), n))
    pointers = (ctypes.c_void_p * 1)(ctypes.addressof(params))
    function = made("cuModuleGetFunction", module, name)
    return error_of("cuLaunchKernel", function, (n + 255) // 256, 1, 1, 256, 1, 1, shared_bytes, stream, pointers, None)


def test_a_launch_computes_on_tensors(module):
    x, y = torch.arange(1000.0).cuda(), torch.empty(1000, device="cuda")
    stream = torch.cuda.Stream()
    assert launch(module, b"test_add_one", x, y, 1000, stream=stream.cuda_stream) == 0
    stream.synchronize()
    assert torch.equal(y.cpu(), torch.arange(1000.0) + 1)
    assert fakecard.counters()["launched"] == {"test_add_one": 1}


def test_what_a_kernel_does_wrong_is_the_cards_error(module, capfd):
    x = torch.ones(100).cuda()
    assert launch(module, b"test_block_sum", x, x, 100, shared_bytes=0) == LAUNCH_FAILED  # its sums are 8 floats
    assert emulator.error().startswith("test_block_sum, block (0,0,0), thread (0,0,0): ")
    assert "byte 0 of shared memory, which has 0, in tests/emulator/kernels/basic.cu:" in emulator.error()
    assert emulator.error() in capfd.readouterr().err
    assert error_of("cuCtxSynchronize") == LAUNCH_FAILED  # until reset
    fakecard.reset()
    assert launch(module, b"test_block_sum", x, x, 100, shared_bytes=32) == 0
    call("cuCtxSynchronize")
    assert x.cpu()[0] == 100


def test_a_kernel_runs_on_the_streams_thread(module):
    x, y = torch.arange(1000.0).cuda(), torch.zeros(1000).cuda()
    fakecard.change(latency_ms=20)
    try:
        assert launch(module, b"test_add_one", x, y, 1000) == 0
        call("cuCtxSynchronize")
        assert launch(module, b"test_block_sum", x, x, 100, shared_bytes=0) == 0
        assert error_of("cuCtxSynchronize") == LAUNCH_FAILED
    finally:
        fakecard.change(latency_ms=0)
        fakecard.reset()
    assert torch.equal(y.cpu(), torch.arange(1000.0) + 1)


def test_each_card_runs_its_own_generation():
    """A kernel sees the __CUDA_ARCH__ of the card that it is launched on."""
    code = f"""
        import sys
        sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT / "tests" / "card")!r}]
        import emulator
        import torch
        from test_emulator import KERNELS, launch, loaded
        emulator.install(sources=KERNELS)
        for device in range(2):
            torch.cuda.set_device(device)
            out = torch.empty(1, dtype=torch.int32, device="cuda")
            assert launch(loaded("compute_75"), b"test_arch", out, out, 1) == 0
            print(out.item())
    """
    done = fakecard.run(code, ["T4", "RTX 5090"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["750", "1200"]


@pytest.mark.parametrize("name", sorted(it.name for it in KERNELS.glob("*.cu")))
def test_the_emulators_kernels_are_cuda(name):
    """What g++ takes with the emulator's built-ins, NVRTC takes with its own."""
    assert compiled_file(name, "compute_80")
