"""The driver's side: contexts, functions by name, emulated kernels; errors, faults, calls that are not implemented."""

import ctypes
import struct
import threading

import pytest

import fakecard
from fakecard.build import HERE

from .api import (
    EMULATED,
    ILLEGAL_ADDRESS,
    INVALID_CONTEXT,
    INVALID_HANDLE,
    INVALID_VALUE,
    NOT_EMULATED,
    NOT_FOUND,
    NOT_SUPPORTED,
    allocated,
    call,
    error_of,
    made,
    number,
    process,
    read,
)
from .test_images import PTX_TEXT

CARDS = fakecard.cards_here()


seen = []


@EMULATED
def add_one(launch):
    """y[i] = x[i] + 1 for PTX_TEXT's add_one(struct {float* x; float* y; int n;}, unsigned)."""
    it = launch.contents
    seen.append((it.name, tuple(it.grid), tuple(it.block), it.shared_bytes, it.parameter_bytes[:2], it.device))
    x, y, n = struct.unpack("<QQi", ctypes.string_at(it.parameters[0], 20))
    for i in range(n):
        (ctypes.c_float * n).from_address(y)[i] = (ctypes.c_float * n).from_address(x)[i] + 1
    return 0


@pytest.fixture(autouse=True)
def first_card():
    call("cudaSetDevice", 0)
    seen.clear()
    yield
    process.fakecard_register_kernel(b"add_one", None)


@pytest.fixture
def function():
    module = made("cuModuleLoadData", ctypes.create_string_buffer(PTX_TEXT % b"75"))
    yield made("cuModuleGetFunction", module, b"add_one")
    call("cuModuleUnload", module)


class Arguments:
    def __init__(self, values):
        self.values = values
        self.x, self.y = allocated(struct.pack(f"<{len(values)}f", *values)), made("cudaMalloc", 4 * len(values))
        self.block = ctypes.create_string_buffer(struct.pack("<QQi4x", self.x, self.y, len(values)))
        self.flag = ctypes.c_uint(3)
        self.pointers = (ctypes.c_void_p * 2)(ctypes.addressof(self.block), ctypes.addressof(self.flag))

    def result(self):
        return list(struct.unpack(f"<{len(self.values)}f", read(self.y, 4 * len(self.values))))


def launch(function, arguments, stream=None, grid=(2, 1, 1), block=(32, 1, 1), shared=16):
    return error_of("cuLaunchKernel", function, *grid, *block, shared, stream, arguments.pointers, None)


def test_an_emulated_kernel_runs(function):
    process.fakecard_register_kernel(b"add_one", add_one)
    arguments = Arguments([1, 2, 3])
    assert launch(function, arguments) == 0
    assert arguments.result() == [2, 3, 4]
    assert seen == [(b"add_one", (2, 1, 1), (32, 1, 1), 16, [24, 4], 0)]
    assert fakecard.counters()["launched"] == {"add_one": 1}


def test_a_kernel_without_code_is_not_emulated(function):
    assert launch(function, Arguments([1])) == NOT_EMULATED
    assert fakecard.counters()["not_emulated"] == {"add_one": 1}
    text = ctypes.c_char_p()
    call("cuGetErrorString", NOT_EMULATED, ctypes.byref(text))
    assert text.value == b"fakecard: this kernel is not emulated: add_one"


def test_parameters_are_taken_when_launched(function):
    process.fakecard_register_kernel(b"add_one", add_one)
    arguments, stream = Arguments([1, 2, 3]), made("cuStreamCreate", 1)
    fakecard.change(latency_ms=150)
    try:
        assert launch(function, arguments, stream) == 0
        ctypes.memset(arguments.block, 0, 24)
        assert not seen
        call("cuStreamSynchronize", stream)
    finally:
        fakecard.change(latency_ms=0)
    assert arguments.result() == [2, 3, 4]


def test_kernels_are_captured_and_replayed(function):
    process.fakecard_register_kernel(b"add_one", add_one)
    arguments, stream, graph = Arguments([1]), made("cuStreamCreate", 1), ctypes.c_void_p()
    call("cuStreamBeginCapture_v2", stream, 1)
    assert launch(function, arguments, stream) == 0
    call("cuStreamEndCapture", stream, ctypes.byref(graph))
    assert not seen
    exec_ = made("cuGraphInstantiateWithFlags", graph, 0)
    for value in (5, 6):
        call("cuMemcpyHtoD_v2", arguments.x, struct.pack("<f", value), 4)
        call("cuGraphLaunch", exec_, stream)
        call("cuStreamSynchronize", stream)
        assert arguments.result() == [value + 1]


@pytest.mark.parametrize(
    "wrong",
    [{"grid": (0, 1, 1)}, {"block": (1025, 1, 1)}, {"block": (32, 33, 1)}, {"grid": (1, 65536, 1)}, {"shared": 10**6}],
    ids=str,
)
def test_impossible_launches(function, wrong):
    process.fakecard_register_kernel(b"add_one", add_one)
    assert launch(function, Arguments([1]), **wrong) == INVALID_VALUE


def test_shared_memory_beyond_48_kb_is_asked_for(function):
    process.fakecard_register_kernel(b"add_one", add_one)
    arguments, most = Arguments([1]), CARDS[0]["shared_per_block_optin"]
    assert launch(function, arguments, shared=48 << 10) == 0
    assert launch(function, arguments, shared=(48 << 10) + 4) == INVALID_VALUE
    assert error_of("cuFuncSetAttribute", function, 8, most + 1) == INVALID_VALUE
    call("cuFuncSetAttribute", function, 8, most)
    assert number("cuFuncGetAttribute", 8, function) == most
    assert launch(function, arguments, shared=most) == 0
    call("cuFuncSetAttribute", function, 8, 1 << 10)  # another thread may lower it
    assert launch(function, arguments, shared=most) == INVALID_VALUE


def test_a_function_is_its_cards_alone(function):
    call("cudaSetDevice", 1)
    stream = made("cuStreamCreate", 1)
    assert launch(function, Arguments([1]), stream) == INVALID_HANDLE


@pytest.mark.parametrize("forced", ["0", "1"])
def test_ptx_alone_where_it_is_forced(forced, monkeypatch):
    monkeypatch.setenv("CUDA_FORCE_PTX_JIT", forced)
    done = fakecard.run(
        """
        from fakecard.test_images import PTX, SASS, chosen, entry, fatbin
        for images, want in (
            ([entry(SASS, 90)], ("sm_90", "")),
            ([entry(PTX, 80), entry(SASS, 90)], ("sm_90", "compute_80")),
        ):
            assert chosen(fatbin(*images), (9, 0)) == want[int(FORCED)]
        """.replace("FORCED", repr(forced)),
        "H100",
    )
    assert done.returncode == 0, done.stderr


def test_a_kernel_that_fails_stops_its_card(function):
    failing = EMULATED(lambda _: ILLEGAL_ADDRESS)
    process.fakecard_register_kernel(b"add_one", failing)
    arguments, stream = Arguments([1]), made("cuStreamCreate", 1)
    fakecard.change(latency_ms=5)
    assert launch(function, arguments, stream) == 0
    assert error_of("cuStreamSynchronize", stream) == ILLEGAL_ADDRESS
    fakecard.change(latency_ms=0)
    assert error_of("cudaMalloc", ctypes.byref(ctypes.c_void_p()), 4) == ILLEGAL_ADDRESS
    assert process.cudaGetLastError() == process.cudaGetLastError() == ILLEGAL_ADDRESS
    call("cudaSetDevice", 1)
    assert made("cudaMalloc", 4)
    call("cudaSetDevice", 0)
    fakecard.reset()
    assert made("cudaMalloc", 4)


def test_libraries_and_kernels():
    process.fakecard_register_kernel(b"add_one", add_one)
    library = made("cuLibraryLoadData", ctypes.create_string_buffer(PTX_TEXT % b"120"), None, None, 0, None, None, 0)
    kernel = made("cuLibraryGetKernel", library, b"add_one")
    arguments = Arguments([4])
    assert launch(made("cuKernelGetFunction", kernel), arguments) == 0
    assert arguments.result() == [5]
    call("cuLibraryUnload", library)


def in_new_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_the_driver_asks_for_a_context():
    def body():
        out = ctypes.c_void_p()
        errors = [error_of("cuMemAlloc_v2", ctypes.byref(out), 4)]
        context = made("cuDevicePrimaryCtxRetain", 1)
        call("cuCtxPushCurrent_v2", context)
        errors.append(error_of("cuMemAlloc_v2", ctypes.byref(out), 4))
        errors += [number("cuCtxGetDevice"), number("cudaGetDevice")]
        errors.append(made("cuCtxPopCurrent_v2") == context)
        return [*errors, error_of("cuMemAlloc_v2", ctypes.byref(out), 4), error_of("cuCtxPopCurrent_v2", None)]

    assert in_new_thread(body) == [INVALID_CONTEXT, 0, 1, 1, True, INVALID_CONTEXT, INVALID_CONTEXT]


def test_the_runtime_makes_the_context():
    def body():
        call("cudaFree", None)
        return made("cuCtxGetCurrent") == made("cuDevicePrimaryCtxRetain", 0)

    assert in_new_thread(body)


def test_devices():
    assert number("cuDeviceGetCount") == 2
    for i, card in enumerate(CARDS):
        major, minor, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
        call("cuDeviceComputeCapability", ctypes.byref(major), ctypes.byref(minor), i)
        call("cuDeviceGetName", name, 256, i)
        assert (name.value.decode(), major.value, minor.value) == (card["name"], card["major"], card["minor"])
        assert number("cuDeviceGetAttribute", 16, i) == card["multiprocessors"]
        assert number("cudaDeviceGetAttribute", 97, i) == card["shared_per_block_optin"]
    assert error_of("cuDeviceGetName", ctypes.create_string_buffer(8), 8, 2) == 101
    assert error_of("cudaSetDevice", 2) == 101


@pytest.mark.parametrize("lookup", ["dlopen", "cuGetProcAddress_v2", "cudaGetDriverEntryPointByVersion"])
def test_the_driver_is_found_by_name(lookup):
    """As a program finds it that links nothing of CUDA."""
    if lookup == "dlopen":
        assert ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
        return
    address = ctypes.c_void_p()
    rest = (12000, 0, None)
    call(lookup, b"cuMemAlloc", ctypes.byref(address), *rest)
    assert address.value == ctypes.cast(process.cuMemAlloc_v2, ctypes.c_void_p).value
    assert error_of(lookup, b"cuNoSuchThing", ctypes.byref(address), *rest) == NOT_FOUND
    assert not address.value
    call(lookup, b"cuTexRefCreate", ctypes.byref(address), *rest)
    assert address.value == ctypes.cast(process.cuTexRefCreate, ctypes.c_void_p).value


def test_every_name_is_there():
    names = [word for line in (HERE / "names.txt").read_text().splitlines() if line[:1] != "#" for word in line.split()]
    assert len(names) > 1000
    assert not [name for name in names if not hasattr(process, name)]


def test_what_is_not_implemented_says_so_once():
    done = fakecard.run(
        """
        import fakecard
        from fakecard.api import error_of, process
        errors = [error_of("cudaMallocArray"), error_of("cudaMallocArray"), process.cudaGetLastError()]
        print(errors, error_of("cuTexRefCreate"), process.cudaGetLastError(), fakecard.counters()["not_implemented"])
        """,
        "T4",
    )
    assert done.stdout == f"{[NOT_SUPPORTED] * 3} {NOT_SUPPORTED} 0 {{'cuTexRefCreate': 1, 'cudaMallocArray': 2}}\n"
    assert done.stderr.count("fakecard: cudaMallocArray is not implemented") == 1


def test_a_wrong_description_ends_the_process(monkeypatch):
    monkeypatch.setitem(fakecard.cards, "X", {"nmae": "X"})
    done = fakecard.run("from fakecard.api import *; call('cuInit', 0)", "X")
    assert "FAKECARD_CARDS has the unknown word 'nmae'" in done.stderr


@pytest.mark.parametrize(("nth", "times", "want"), [(1, 1, [7, 0, 0, 0]), (3, 1, [0, 0, 7, 0]), (2, 2, [0, 7, 7, 0])])
def test_faults_come_when_asked(nth, times, want):
    fakecard.fault("cuStreamQuery", 7, nth=nth, times=times)
    assert [error_of("cuStreamQuery", None) for _ in range(4)] == want


def test_last_errors_belong_to_the_thread():
    assert error_of("cudaMemcpy", 8, b"abc", 3, 1) == INVALID_VALUE
    assert in_new_thread(lambda: process.cudaGetLastError()) == 0
    assert process.cudaPeekAtLastError() == INVALID_VALUE
    assert process.cudaGetLastError() == INVALID_VALUE
    assert process.cudaGetLastError() == 0


def test_texts_of_errors():
    process.cudaGetErrorString.restype = process.cudaGetErrorName.restype = ctypes.c_char_p
    assert process.cudaGetErrorString(209) == b"no kernel image is available for execution on the device"
    assert process.cudaGetErrorName(209) == b"cudaErrorNoKernelImageForDevice"
    assert process.cudaGetErrorString(123456) == b"unrecognized error code"
