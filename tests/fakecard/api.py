"""Calls of the CUDA runtime and driver by name, for tests of the fake card itself."""

import ctypes
from typing import Any

H2H, H2D, D2H, D2D, DEFAULT = range(5)
SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, INITIALIZATION_ERROR = range(4)
INVALID_IMAGE, INVALID_CONTEXT, NO_BINARY, INVALID_PTX = 200, 201, 209, 218
INVALID_HANDLE, NOT_FOUND, NOT_READY, ILLEGAL_ADDRESS = 400, 500, 600, 700
NOT_PERMITTED, NOT_SUPPORTED, NOT_EMULATED = 800, 801, 9000
BLOCKING, NON_BLOCKING = range(2)  # streams, for the default one

process = ctypes.CDLL(None)


class Launch(ctypes.Structure):
    """FakecardLaunch of fakecard_kernel.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("device", ctypes.c_int),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_size_t),
        ("parameters", ctypes.POINTER(ctypes.c_void_p)),
        ("parameter_bytes", ctypes.POINTER(ctypes.c_size_t)),
        ("parameter_count", ctypes.c_int),
    )


# A kernel that is written in Python: def kernel(launch): ...; fakecard_register_kernel(b"name", EMULATED(kernel))
EMULATED = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Launch))


def error_of(name: str, *arguments: Any) -> int:
    """The number that the call gives. Integers go as 64 bits, whatever the parameter is."""
    return getattr(process, name)(*(ctypes.c_int64(a) if isinstance(a, int) else a for a in arguments))


def call(name: str, *arguments: Any) -> None:
    error = error_of(name, *arguments)
    assert error == SUCCESS, f"{name}: {error}"


def made(name: str, *arguments: Any) -> int:
    """What the call writes through its first parameter: an address, a handle or a number."""
    out = ctypes.c_uint64()
    call(name, ctypes.byref(out), *arguments)
    return out.value


def number(name: str, *arguments: Any) -> int:
    """As `made`, for an int."""
    out = ctypes.c_int()
    call(name, ctypes.byref(out), *arguments)
    return out.value


def allocated(data: bytes) -> int:
    """Memory of the current card that holds `data`."""
    address = made("cudaMalloc", len(data))
    call("cudaMemcpy", address, data, len(data), H2D)
    return address


def read(address: int, size: int) -> bytes:
    out = ctypes.create_string_buffer(size)
    call("cudaMemcpy", out, address, size, D2H)
    return out.raw


def pinned(data: bytes) -> int:
    address = made("cudaHostAlloc", len(data), 0)
    ctypes.memmove(address, data, len(data))
    return address


def new_stream(flags: int = NON_BLOCKING) -> int:
    return made("cudaStreamCreateWithFlags", flags)
