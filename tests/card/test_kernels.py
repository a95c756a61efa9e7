"""The wheel's own NVRTC compiles, the driver checks what comes out against the card, and the emulated kernel of that
name works on PyTorch's tensors in PyTorch's stream.
"""

import ctypes
import os
import struct
import subprocess
from pathlib import Path

import fakecard
import pytest
import torch
from blackwell_compat import _C, compilers
from fakecard.api import EMULATED, NO_BINARY, call, error_of, made, process

CARD = fakecard.cards_here()[0]
SOURCE = b"""
struct Params { const float* x; float* y; int n; };
extern "C" __global__ void add_one(Params p, float what) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < p.n) p.y[i] = p.x[i] + what;
}
"""


@EMULATED
def add_one(launch):
    parameters = launch.contents.parameters
    x, y, n = struct.unpack("<QQi", ctypes.string_at(parameters[0], 20))
    what = ctypes.c_float.from_address(parameters[1]).value
    for i in range(n):
        (ctypes.c_float * n).from_address(y)[i] = (ctypes.c_float * n).from_address(x)[i] + what
    return 0


def compiled(architecture, source=SOURCE, *more):
    """A cubin for "sm_90", PTX for "compute_90"; `more` options of NVRTC."""
    toolkit = torch.version.cuda.partition(".")[0]  # another NVRTC may lie beside torch's own
    (library,) = Path(torch.__file__).parents[1].glob(f"nvidia/*/lib/libnvrtc.so.{toolkit}*")
    nvrtc, program, size = ctypes.CDLL(str(library)), ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None) == 0
    options = [f"--gpu-architecture={architecture}".encode(), *more]
    assert nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)) == 0
    kind = "CUBIN" if architecture.startswith("sm") else "PTX"
    assert getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)) == 0
    code = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{kind}")(program, code) == 0
    return code


def fits(architecture):
    capability, wanted = (CARD["major"], CARD["minor"]), divmod(int(architecture.split("_")[1].rstrip("a")), 10)
    if architecture.endswith("a"):
        return capability == wanted
    return capability >= wanted and (architecture.startswith("compute") or capability[0] == wanted[0])


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90", "sm_90a", "compute_75", "compute_90", "compute_90a"])
def test_the_driver_takes_what_fits(architecture):
    torch.empty(1, device="cuda")  # makes the context
    module = ctypes.c_void_p()
    error = error_of("cuModuleLoadData", ctypes.byref(module), compiled(architecture))
    assert error == (0 if fits(architecture) else NO_BINARY)


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90a", "compute_75", "compute_90"])
def test_parameters_are_read_from_what_nvrtc_wrote(architecture):
    done = fakecard.run(
        f"""
        import ctypes, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import torch
        from fakecard.api import call, made
        from test_kernels import compiled
        call("cudaSetDevice", {int(architecture == "sm_90a")})
        module = made("cuModuleLoadData", compiled({architecture!r}))
        function, sizes = made("cuModuleGetFunction", module, b"add_one"), []
        for i in range(2):
            size = ctypes.c_size_t()
            call("cuFuncGetParamInfo", function, i, None, ctypes.byref(size))
            sizes.append(size.value)
        assert sizes == [24, 4], sizes
        """,
        ["T4" if architecture.endswith("75") else "H100", "H100"],
    )
    assert done.returncode == 0, done.stderr


def test_an_emulated_kernel_works_on_tensors():
    architecture = next((it for it in ("compute_75", "compute_50") if fits(it)), None)
    try:
        code = compiled(architecture) if architecture else None
    except AssertionError:
        code = None
    if code is None:
        pytest.skip(f"the NVRTC of this wheel compiles nothing for a {CARD['name']}")
    x, y = torch.arange(5.0).cuda(), torch.empty(5, device="cuda")
    function = made("cuModuleGetFunction", made("cuModuleLoadData", code), b"add_one")
    process.fakecard_register_kernel(b"add_one", add_one)
    try:
        stream = torch.cuda.Stream()
        params = ctypes.create_string_buffer(struct.pack("<QQi4x", x.data_ptr(), y.data_ptr(), 5))
        pointers = (ctypes.c_void_p * 2)(ctypes.addressof(params), ctypes.addressof(what := ctypes.c_float(0.5)))
        call("cuLaunchKernel", function, 1, 1, 1, 32, 1, 1, 0, stream.cuda_stream, pointers, None)
        stream.synchronize()
    finally:
        process.fakecard_register_kernel(b"add_one", None)
    assert y.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert what.value == 0.5
    assert fakecard.counters()["launched"] == {"add_one": 1}


def test_a_compiler_newer_than_the_driver_comes_last(tmp_path):
    """The driver does not read what it makes, though it alone may know the card."""
    capability, library = 10 * CARD["major"] + CARD["minor"], tmp_path / "libnvrtc.so.99"
    source = f"""
        extern "C" int nvrtcVersion(int* major, int* minor) {{ return *major = 99, *minor = 0; }}
        extern "C" int nvrtcGetNumSupportedArchs(int* count) {{ return *count = 1, 0; }}
        extern "C" int nvrtcGetSupportedArchs(int* architectures) {{ return *architectures = {capability}, 0; }}
    """
    command = [os.environ.get("CXX", "g++"), "-shared", "-fPIC", "-xc++", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True)
    try:
        others = [one["path"] for one in compilers.compilers()]
        _C.runtime_set_compilers([str(library), *others])
        assert _C.runtime_target(capability)[0] in others
        _C.runtime_set_compilers([str(library)])
        assert _C.runtime_target(capability) == (str(library), f"sm_{capability}")
    finally:
        compilers.find()
