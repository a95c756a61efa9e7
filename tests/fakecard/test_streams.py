"""Order within and between streams, events, host functions."""

import ctypes
import threading
import time

import pytest

import fakecard

from .api import (
    BLOCKING,
    D2D,
    D2H,
    H2D,
    INVALID_HANDLE,
    NON_BLOCKING,
    NOT_PERMITTED,
    NOT_READY,
    NOT_SUPPORTED,
    allocated,
    call,
    error_of,
    made,
    new_stream,
    pinned,
    process,
    read,
)

pytestmark = pytest.mark.usefixtures("on_time")


def late(ms=150):
    fakecard.change(latency_ms=ms)


def download(address, stream=None):
    """An asynchronous copy of 3 bytes to pinned memory, and what reads that."""
    host = pinned(b"---")
    call("cudaMemcpyAsync", host, address, 3, D2H, stream)
    return lambda: ctypes.string_at(host, 3)


def test_operations_are_late_and_in_order():
    stream, a = new_stream(), allocated(b"old")
    late()
    call("cudaMemcpyAsync", a, pinned(b"new"), 3, H2D, stream)
    down = download(a, stream)
    assert down() == b"---"
    assert error_of("cudaStreamQuery", stream) == NOT_READY
    call("cudaStreamSynchronize", stream)
    assert down() == b"new"
    call("cudaStreamQuery", stream)


def test_a_bus_takes_its_time_and_copies_on_the_card_do_not_pass_it():
    fakecard.change(bus_gb_per_s=0.01)
    data, n = b"x" * 300_000, 300_000
    start = time.perf_counter()
    a = allocated(data)
    up = time.perf_counter()
    b = made("cudaMalloc", n)
    for _ in range(20):
        call("cudaMemcpy", b, a, n, D2D)
    call("cudaDeviceSynchronize")
    within = time.perf_counter()
    assert read(b, n) == data
    down = time.perf_counter()
    assert up - start >= 0.03 <= down - within
    assert within - up < 20 * 0.03


def test_streams_are_independent_and_events_order_them():
    first, second, a = new_stream(), new_stream(), allocated(b"old")
    event = made("cudaEventCreateWithFlags", 2)
    late(400)
    call("cudaMemcpyAsync", a, pinned(b"new"), 3, H2D, first)
    call("cudaEventRecord", event, first)
    late(1)
    unordered = download(a, second)
    call("cudaStreamSynchronize", second)
    assert unordered() == b"old"
    call("cudaStreamWaitEvent", second, event, 0)
    ordered = download(a, second)
    call("cudaStreamSynchronize", second)
    assert ordered() == b"new"


@pytest.mark.parametrize("flags", [BLOCKING, NON_BLOCKING], ids=["blocking", "nonblocking"])
def test_the_default_stream_waits_for_blocking_streams_only(flags):
    stream, a = new_stream(flags), allocated(b"old")
    late(400)
    call("cudaMemcpyAsync", a, pinned(b"new"), 3, H2D, stream)
    late(1)
    down = download(a)
    call("cudaStreamSynchronize", None)
    assert down() == (b"new" if flags == BLOCKING else b"old")


def test_blocking_streams_wait_for_the_default_stream():
    stream, a = new_stream(BLOCKING), allocated(b"old")
    late(400)
    call("cudaMemcpyAsync", a, pinned(b"new"), 3, H2D, None)
    late(1)
    down = download(a, stream)
    call("cudaStreamSynchronize", stream)
    assert down() == b"new"


def test_a_synchronous_copy_waits():
    a = allocated(b"old")
    late()
    call("cudaMemcpy", a, b"new", 3, H2D)
    assert read(a, 3) == b"new"


def test_pageable_memory_is_read_at_once_and_written_before_the_call_returns():
    stream, a, up, down = new_stream(), allocated(b"old"), ctypes.create_string_buffer(b"new", 3), bytearray(3)
    out = (ctypes.c_char * 3).from_buffer(down)
    late()
    call("cudaMemcpyAsync", a, up, 3, H2D, stream)
    ctypes.memset(up, 0, 3)
    call("cudaMemcpyAsync", out, a, 3, D2H, stream)
    assert down == b"new"


def test_device_synchronisation_waits_for_all_streams():
    streams, a = [new_stream() for _ in range(3)], allocated(b"abc")
    late()
    downs = [download(a, stream) for stream in streams]
    call("cudaDeviceSynchronize")
    assert [down() for down in downs] == [b"abc"] * 3


def test_freeing_waits_for_the_device():
    stream, a = new_stream(), allocated(b"abc")
    late()
    down = download(a, stream)
    call("cudaFree", a)
    assert down() == b"abc"


def test_a_stream_that_is_destroyed_finishes_its_work():
    stream, a = new_stream(), allocated(b"abc")
    late()
    down = download(a, stream)
    call("cudaStreamDestroy", stream)
    assert error_of("cudaStreamSynchronize", stream) == INVALID_HANDLE
    deadline = time.monotonic() + 5
    while down() != b"abc" and time.monotonic() < deadline:
        time.sleep(0.005)
    assert down() == b"abc"


def test_events():
    stream, start, end, untimed = (
        new_stream(),
        made("cudaEventCreate"),
        made("cudaEventCreate"),
        made("cuEventCreate", 2),
    )
    ms = ctypes.c_float()

    def elapsed(first, second):
        return error_of("cudaEventElapsedTime", ctypes.byref(ms), first, second)

    assert elapsed(start, end) == INVALID_HANDLE  # never recorded
    call("cudaEventSynchronize", start)
    late()
    call("cudaEventRecord", start, stream)
    download(allocated(b"abc"), stream)
    call("cudaEventRecord", end, stream)
    call("cudaEventRecord", untimed, stream)
    assert error_of("cudaEventQuery", end) == NOT_READY
    assert elapsed(start, end) == NOT_READY
    call("cudaEventSynchronize", end)
    assert elapsed(start, end) == 0
    assert ms.value > 140
    assert elapsed(start, untimed) == INVALID_HANDLE
    call("cudaEventDestroy", end)
    assert error_of("cudaEventQuery", end) == INVALID_HANDLE


def test_host_functions_run_in_order_and_may_not_call():
    seen, stream = [], new_stream()
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    @function
    def host(data):
        seen.append((data, error_of("cudaMalloc", ctypes.byref(ctypes.c_void_p()), 4)))

    late()
    for data in (1, 2, 3):
        call("cudaLaunchHostFunc", stream, host, data)
    assert not seen
    call("cudaStreamSynchronize", stream)
    assert seen == [(data, NOT_PERMITTED) for data in (1, 2, 3)]


def test_callbacks_get_their_stream():
    seen, stream = [], new_stream()
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    callback = function(lambda *arguments: seen.append(arguments))
    call("cudaStreamAddCallback", stream, callback, 9, 0)
    call("cudaStreamSynchronize", stream)
    assert seen == [(stream, 0, 9)]


def test_wrong_handles():
    assert error_of("cudaStreamSynchronize", 12345) == INVALID_HANDLE
    assert error_of("cudaEventRecord", 12345, None) == INVALID_HANDLE
    assert error_of("cudaStreamSynchronize", 2) == NOT_SUPPORTED  # the stream of the thread
    assert "cudaStreamPerThread" in fakecard.counters()["not_implemented"]


def test_priorities():
    stream = made("cudaStreamCreateWithPriority", NON_BLOCKING, -3)
    value = ctypes.c_int()
    call("cudaStreamGetPriority", stream, ctypes.byref(value))
    assert value.value == -3


def test_many_streams_in_many_threads():
    """Values travel through a chain of streams, threads and events, with and without latency."""
    late(1)
    failures = []

    def chain(number):
        call("cudaSetDevice", number % 2)
        streams = [new_stream() for _ in range(3)]
        event, up, host = made("cudaEventCreate"), pinned(bytes([number, 7, 7])), pinned(b"---")
        a, b = made("cudaMalloc", 3), made("cudaMalloc", 3)
        for _ in range(5):
            ctypes.memset(host, 0, 3)
            call("cudaMemcpyAsync", a, up, 3, H2D, streams[0])
            call("cudaEventRecord", event, streams[0])
            call("cudaStreamWaitEvent", streams[1], event, 0)
            call("cudaMemcpyAsync", b, a, 3, D2D, streams[1])
            call("cudaEventRecord", event, streams[1])
            call("cudaStreamWaitEvent", streams[2], event, 0)
            call("cudaMemcpyAsync", host, b, 3, D2H, streams[2])
            call("cudaStreamSynchronize", streams[2])
            if ctypes.string_at(host, 3) != bytes([number, 7, 7]):
                failures.append(number)

    threads = [threading.Thread(target=chain, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert process.cudaPeekAtLastError() == 0
