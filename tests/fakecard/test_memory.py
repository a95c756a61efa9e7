"""Allocations, copies, fills, pinned memory, pools and mapped segments, by the runtime's and the driver's calls."""

import ctypes
import os
import signal
import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import fakecard

from .api import (
    D2D,
    D2H,
    DEFAULT,
    H2D,
    H2H,
    INITIALIZATION_ERROR,
    INVALID_VALUE,
    OUT_OF_MEMORY,
    allocated,
    call,
    error_of,
    made,
    number,
    pinned,
    process,
    read,
)

MIB = 1 << 20
CARDS = fakecard.cards_here()


@pytest.fixture(autouse=True)
def first_card():
    call("cudaSetDevice", 0)


def free_bytes():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
    return free.value


@pytest.mark.parametrize("access", ["string_at(address, 1)", "memset(address, 0, 1)"], ids=["read", "write"])
def test_host_code_cannot_touch_it(access):
    done = fakecard.run(
        f"""
        import ctypes
        from fakecard.api import made
        address = made("cudaMalloc", 100)
        ctypes.{access}
        """,
        "RTX 5090",
    )
    assert done.returncode == -signal.SIGSEGV
    assert "fakecard: host code touched the card's memory" in done.stderr
    assert 'File "<string>"' in done.stderr


def test_system_calls_cannot_touch_it_either():
    reader, writer = os.pipe()
    assert ctypes.CDLL(None).write(writer, ctypes.c_void_p(allocated(b"secret")), 6) == -1
    os.close(reader)
    os.close(writer)


def test_the_alias_is_the_same_memory():
    process.fakecard_alias.restype = ctypes.c_void_p
    address = allocated(b"abcdefgh")
    alias = process.fakecard_alias(ctypes.c_void_p(address))
    assert ctypes.string_at(alias, 8) == b"abcdefgh"
    ctypes.memmove(alias, b"ABCDEFGH", 8)
    assert read(address, 8) == b"ABCDEFGH"


@pytest.mark.parametrize(("offset", "size", "error"), [(0, 4096, 0), (4000, 96, 0), (4000, 97, INVALID_VALUE)])
def test_copies_stay_inside_an_allocation(offset, size, error):
    neighbours = [made("cudaMalloc", 4096) for _ in range(3)]
    address = next(a for a in neighbours if a + 4096 in neighbours)  # what lies beyond is memory, but not this one's
    assert error_of("cudaMemcpy", address + offset, bytes(size), size, H2D) == error


def test_new_memory_is_not_zero():
    address = made("cudaMalloc", 5000)
    assert read(address, 5000) == b"\xcb" * 5000
    call("cudaFree", address)


def test_freed_memory_is_gone():
    address = allocated(b"abc")
    call("cudaFree", address)
    assert error_of("cudaMemcpy", ctypes.create_string_buffer(3), address, 3, D2H) == INVALID_VALUE
    assert error_of("cudaFree", address) == INVALID_VALUE


def test_the_middle_of_an_allocation_cannot_be_freed():
    address = allocated(bytes(8192))
    assert error_of("cudaFree", address + 4096) == INVALID_VALUE
    call("cudaFree", address)


@pytest.mark.parametrize("direction", [H2H, D2H, D2D])
def test_the_direction_has_to_be_right(direction):
    assert error_of("cudaMemcpy", made("cudaMalloc", 8), bytes(8), 8, direction) == INVALID_VALUE


def test_directions_are_found_out():
    a, b, out = allocated(b"one"), allocated(b"two"), ctypes.create_string_buffer(3)
    fakecard.reset()
    call("cudaMemcpy", a, b"six", 3, DEFAULT)
    call("cudaMemcpy", b, a, 3, DEFAULT)
    call("cudaMemcpy", out, b, 3, DEFAULT)
    counted = fakecard.counters()
    assert out.raw == b"six"
    assert [counted[name] for name in ("h2d", "d2d", "d2h", "h2h")] == [1, 1, 1, 0]


def test_copies_of_rectangles():
    source = bytes(range(40))  # 4 rows of 10
    address = made("cudaMalloc", 64)
    call("cudaMemset", address, 0xFF, 64)
    call("cudaMemcpy2D", address, 16, source, 10, 6, 4, H2D)
    got = read(address, 64)
    assert [got[row * 16 : row * 16 + 6] for row in range(4)] == [source[row * 10 : row * 10 + 6] for row in range(4)]
    assert got[6:16] == b"\xff" * 10
    assert error_of("cudaMemcpy2D", address, 5, source, 10, 6, 4, H2D) == INVALID_VALUE
    back = ctypes.create_string_buffer(24)
    call("cudaMemcpy2D", back, 6, address, 16, 6, 4, D2H)
    assert back.raw == b"".join(source[row * 10 : row * 10 + 6] for row in range(4))


def test_copies_of_boxes():
    source = bytes(range(60))  # 3 layers of 4 rows of 5
    address, out = allocated(source), ctypes.create_string_buffer(8)
    from_ = (0, 1, 2, 1, address, 5, 5, 4)  # array, position, address, pitch, width, rows of a layer
    to = (0, 0, 0, 0, ctypes.addressof(out), 2, 2, 2)
    parameters = struct.pack("<8Q8Q3Qi4x", *from_, *to, *(2, 2, 2), D2H)
    call("cudaMemcpy3D", ctypes.create_string_buffer(parameters))
    want = [source[layer * 20 + row * 5 + 1 :][:2] for layer in (1, 2) for row in (2, 3)]
    assert out.raw == b"".join(want)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["now", "async"])
@pytest.mark.parametrize(("bits", "value", "unit"), [(8, 0xA1, "<B"), (16, 0xA1B2, "<H"), (32, 0xA1B2C3D4, "<I")])
def test_fills(bits, value, unit, asynchronous):
    name, stream = (f"cuMemsetD{bits}Async", [None]) if asynchronous else (f"cuMemsetD{bits}_v2", [])
    address, size = allocated(bytes(32)), struct.calcsize(unit)
    call(name, address + 4, value, 5, *stream)
    assert read(address, 32) == bytes(4) + struct.pack(unit, value) * 5 + bytes(28 - 5 * size)
    assert error_of(name, address + 1, value, 1, *stream) == (INVALID_VALUE if size > 1 else 0)


def test_fills_of_rectangles():
    address = allocated(bytes(32))
    call("cudaMemset2D", address, 8, 1, 3, 4)
    assert read(address, 32) == (b"\1" * 3 + bytes(5)) * 4
    call("cuMemsetD2D16_v2", address, 8, 0x0202, 2, 2)
    assert read(address, 16) == (b"\2" * 4 + bytes(4)) * 2
    counted = fakecard.counters()
    assert (counted["memset"], counted["memset_bytes"]) == (2, 12 + 8)


def test_memory_information():
    before = free_bytes()
    address = made("cudaMalloc", 10 * MIB)
    assert before - free_bytes() == 10 * MIB
    call("cudaFree", address)
    assert free_bytes() == before
    size = ctypes.c_size_t()
    call("cuDeviceTotalMem_v2", ctypes.byref(size), 0)
    assert size.value == CARDS[0]["memory"]


def test_all_of_the_memory_and_no_more():
    free = free_bytes() // 4096 * 4096
    address = made("cudaMalloc", free)
    out = ctypes.c_void_p(1)
    assert error_of("cudaMalloc", ctypes.byref(out), 4096) == OUT_OF_MEMORY
    assert not out.value
    call("cudaFree", address)
    assert error_of("cudaMalloc", ctypes.byref(out), 2**64 - 1) == OUT_OF_MEMORY


class Allocations(RuleBasedStateMachine):
    """Random allocations hold what was written to them, and memory is whole again at the end."""

    def __init__(self):
        super().__init__()
        self.before = free_bytes()
        self.kept = []

    @rule(size=st.integers(1, 5 * MIB), byte=st.integers(0, 255))
    def allocate(self, size, byte):
        address = made("cudaMalloc", size)
        call("cudaMemset", address, byte, size)
        self.kept.append((address, size, byte))

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def free(self, data):
        address, _, _ = self.kept.pop(data.draw(st.integers(0, len(self.kept) - 1)))
        call("cudaFree", address)

    @invariant()
    def contents(self):
        for address, size, byte in self.kept:
            assert read(address, 1) == read(address + size - 1, 1) == bytes([byte])
        assert self.before - free_bytes() == sum((size + 4095) // 4096 * 4096 for _, size, _ in self.kept)

    def teardown(self):
        for address, _, _ in self.kept:
            call("cudaFree", address)
        assert free_bytes() == self.before


TestAllocations = Allocations.TestCase
TestAllocations.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


class Attributes(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("device", ctypes.c_int),
        ("on_card", ctypes.c_void_p),
        ("on_host", ctypes.c_void_p),
    )


def attributes(address):
    found = Attributes()
    call("cudaPointerGetAttributes", ctypes.byref(found), address)
    return found.type, found.device, found.on_card or 0, found.on_host or 0


def test_pointer_attributes():
    address, host = allocated(bytes(100)), pinned(bytes(100))
    pageable = ctypes.create_string_buffer(100)
    assert attributes(address + 9) == (2, 0, address + 9, 0)
    assert attributes(host + 9) == (1, 0, host + 9, host + 9)
    assert attributes(ctypes.addressof(pageable))[0] == 0
    assert attributes(host + 100)[0] == 0
    assert number("cuPointerGetAttribute", 9, address) == 0
    assert made("cuPointerGetAttribute", 11, address + 9) == address


def test_registered_memory():
    buffer = ctypes.create_string_buffer(100)
    address = ctypes.addressof(buffer)
    call("cudaHostRegister", address, 100, 0)
    assert attributes(address)[0] == 1
    assert error_of("cudaHostRegister", address + 10, 10, 0) == 712
    call("cudaHostUnregister", address)
    assert error_of("cudaHostUnregister", address) == 713
    assert attributes(address)[0] == 0


def test_pinned_memory_is_freed():
    host = pinned(b"x")
    call("cudaFreeHost", host)
    assert error_of("cudaFreeHost", host) == INVALID_VALUE


def test_the_second_card_has_its_own_memory():
    assert number("cudaGetDeviceCount") == len(CARDS) == 2
    first_free = free_bytes()
    call("cudaSetDevice", 1)
    second_free = free_bytes()
    address = made("cudaMalloc", 3 * MIB)
    assert attributes(address)[:2] == (2, 1)
    assert second_free - free_bytes() == 3 * MIB
    call("cudaSetDevice", 0)
    assert free_bytes() == first_free
    call("cudaFree", address)


@pytest.mark.parametrize("peer", [True, False])
def test_peers(peer):
    fakecard.change(peer=peer)
    try:
        assert number("cudaDeviceCanAccessPeer", 0, 1) == peer
        assert number("cuDeviceCanAccessPeer", 0, 0) == 0
        assert error_of("cudaDeviceEnablePeerAccess", 1, 0) == (0 if peer else 217)
        assert error_of("cudaDeviceEnablePeerAccess", 1, 0) == (704 if peer else 217)
        assert error_of("cudaDeviceDisablePeerAccess", 1) == (0 if peer else 705)
        assert error_of("cudaDeviceEnablePeerAccess", 2, 0) == 101
    finally:
        fakecard.change(peer=True)


def test_copies_between_cards():
    here = allocated(b"abc")
    call("cudaSetDevice", 1)
    there = made("cudaMalloc", 3)
    fakecard.reset()
    call("cudaMemcpyPeer", there, 1, here, 0, 3)
    assert read(there, 3) == b"abc"
    counted = fakecard.counters()
    assert (counted["p2p"], counted["p2p_bytes"], counted["d2d"]) == (1, 3, 0)


USED, USED_HIGH = 7, 8


def pool_attribute(pool, which):
    value = ctypes.c_uint64()
    call("cudaMemPoolGetAttribute", pool, which, ctypes.byref(value))
    return value.value


def test_pools():
    pool = made("cudaDeviceGetDefaultMemPool", 0)
    before = pool_attribute(pool, USED)
    address = made("cudaMallocAsync", MIB, None)
    assert pool_attribute(pool, USED) - before == MIB
    call("cudaMemcpy", address, b"abc", 3, H2D)
    assert read(address, 3) == b"abc"
    call("cudaFreeAsync", address, None)
    assert pool_attribute(pool, USED) == before
    assert pool_attribute(pool, USED_HIGH) >= MIB
    assert error_of("cudaFreeAsync", address, None) == INVALID_VALUE


def test_segments_grow_by_mapping():
    page = made("cuMemGetAllocationGranularity", None, 0)
    reserved = made("cuMemAddressReserve", 8 * page, 0, None, 0)
    properties = struct.pack("<4i", 1, 0, 1, 0)
    free = free_bytes()
    chunks = [made("cuMemCreate", page, ctypes.create_string_buffer(properties, 64), 0) for _ in range(2)]
    assert free - free_bytes() == 2 * page
    for i, chunk in enumerate(chunks):
        call("cuMemMap", reserved + i * page, page, 0, chunk, 0)
        call("cuMemSetAccess", reserved + i * page, page, None, 0)
    assert error_of("cuMemMap", reserved, page, 0, chunks[0], 0) == INVALID_VALUE
    data = bytes(range(256)) * 16
    call("cudaMemcpy", reserved + page - 2048, data, len(data), H2D)  # over the seam
    assert read(reserved + page - 2048, len(data)) == data
    assert error_of("cudaMemcpy", reserved + 2 * page - 1, data, 2, H2D) == INVALID_VALUE
    assert error_of("cuMemAddressFree", reserved, 8 * page) == INVALID_VALUE
    for chunk in chunks:
        call("cuMemRelease", chunk)
    assert free - free_bytes() == 2 * page  # still mapped
    call("cuMemUnmap", reserved, 2 * page)
    assert free_bytes() == free
    call("cuMemAddressFree", reserved, 8 * page)
    assert error_of("cudaMemcpy", reserved, data, 2, H2D) == INVALID_VALUE


def test_a_fork_is_refused():
    allocated(b"abc")
    child = os.fork()
    if child == 0:
        os._exit(error_of("cudaMalloc", ctypes.byref(ctypes.c_void_p()), 10))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == INITIALIZATION_ERROR
