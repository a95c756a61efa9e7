"""Order within and between streams, events, host functions, capture."""

import contextlib
import ctypes
import threading
import time

import pytest

import fakecard

from .api import (
    D2D,
    D2H,
    H2D,
    INVALID_HANDLE,
    INVALID_VALUE,
    NOT_PERMITTED,
    NOT_READY,
    NOT_SUPPORTED,
    allocated,
    call,
    error_of,
    made,
    pinned,
    process,
    read,
)

BLOCKING, NON_BLOCKING = 0, 1
GLOBAL, THREAD_LOCAL, RELAXED = range(3)
UNSUPPORTED, INVALIDATED, UNJOINED, IMPLICIT, CAPTURED_EVENT, WRONG_THREAD = 900, 901, 904, 906, 907, 908


@pytest.fixture(autouse=True)
def first_card():
    call("cudaSetDevice", 0)
    yield
    fakecard.reset()
    call("cudaDeviceSynchronize")
    fakecard.change(latency_ms=0)


def late(ms=150):
    fakecard.change(latency_ms=ms)


def new_stream(flags=NON_BLOCKING):
    return made("cudaStreamCreateWithFlags", flags)


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


# Capture


@contextlib.contextmanager
def capture(mode=THREAD_LOCAL, want=0):
    stream, graph = new_stream(), ctypes.c_void_p()
    call("cudaStreamBeginCapture", stream, mode)
    yield stream, graph
    assert error_of("cudaStreamEndCapture", stream, ctypes.byref(graph)) == want
    assert bool(graph) == (want == 0)


def capture_status(stream):
    """0: none, 1: active, 2: invalidated."""
    value = ctypes.c_int()
    call("cudaStreamIsCapturing", stream, ctypes.byref(value))
    return value.value


def node_count(graph):
    count = ctypes.c_size_t()
    call("cudaGraphGetNodes", graph, None, ctypes.byref(count))
    return count.value


def test_a_graph_outlives_what_it_was_made_from():
    a, b, calls = allocated(b"abc"), allocated(b"---"), []
    host = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(calls.append)
    with capture() as (stream, graph):
        call("cudaMemcpyAsync", b, a, 3, D2D, stream)
        call("cudaMemsetAsync", b, ord("z"), 1, stream)
        call("cudaLaunchHostFunc", stream, host, 5)
    assert node_count(graph) == 3
    exec_ = made("cudaGraphInstantiate", graph, 0)
    call("cudaGraphDestroy", graph)
    assert read(b, 3) == b"---"
    for _ in range(2):
        call("cudaGraphLaunch", exec_, stream)
    assert (read(b, 3), calls) == (b"zbc", [5, 5])
    call("cudaGraphExecDestroy", exec_)
    assert error_of("cudaGraphLaunch", exec_, stream) == INVALID_VALUE
    assert error_of("cudaGraphDestroy", graph) == INVALID_VALUE


def test_the_graph_is_printed(tmp_path):
    a, b = allocated(b"abc"), allocated(b"---")
    with capture() as (stream, graph):
        call("cudaMemcpyAsync", b, a, 3, D2D, stream)
        call("cudaMemsetAsync", b, 0, 1, stream)
    call("cudaGraphDebugDotPrint", graph, str(tmp_path / "graph.dot").encode(), 0)
    text = (tmp_path / "graph.dot").read_text()
    assert 'n0 [label="d2d"]' in text
    assert 'n1 [label="memset"]' in text
    assert "n0 -> n1" in text


UNSAFE = {
    "cudaMalloc": lambda _: error_of("cudaMalloc", ctypes.byref(ctypes.c_void_p()), 4),
    "cudaEventQuery": lambda _: error_of("cudaEventQuery", made("cudaEventCreate")),
    "cudaMemcpy": lambda address: error_of("cudaMemcpy", address, b"abc", 3, H2D),
}


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append((call("cudaSetDevice", 0), function())[1]))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("unsafe", UNSAFE)
@pytest.mark.parametrize(
    ("mode", "run", "error"),
    [
        (GLOBAL, lambda f: f(), UNSUPPORTED),
        (GLOBAL, in_thread, UNSUPPORTED),
        (THREAD_LOCAL, lambda f: f(), UNSUPPORTED),
        (THREAD_LOCAL, in_thread, 0),
        (RELAXED, lambda f: f(), 0),
    ],
    ids=["global", "global, another thread", "thread", "thread, another thread", "relaxed"],
)
def test_unsafe_calls_while_capturing(unsafe, mode, run, error):
    address = allocated(b"---")
    with capture(mode, want=INVALIDATED if error else 0):
        assert run(lambda: UNSAFE[unsafe](address)) == error


def test_a_thread_can_relax():
    mode = ctypes.c_int(RELAXED)
    with capture(GLOBAL):
        call("cudaThreadExchangeStreamCaptureMode", ctypes.byref(mode))
        assert mode.value == GLOBAL
        made("cudaMalloc", 4)
        call("cudaThreadExchangeStreamCaptureMode", ctypes.byref(mode))
        assert mode.value == RELAXED


FORBIDDEN = {
    "cudaStreamSynchronize": lambda stream: error_of("cudaStreamSynchronize", stream),
    "cudaStreamQuery": lambda stream: error_of("cudaStreamQuery", stream),
    "cudaDeviceSynchronize": lambda stream: error_of("cudaDeviceSynchronize"),
}


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_waiting_invalidates_a_capture(forbidden):
    a = allocated(b"abc")
    with capture(RELAXED, want=INVALIDATED) as (stream, _):
        assert FORBIDDEN[forbidden](stream) == UNSUPPORTED
        assert capture_status(stream) == 2
        assert error_of("cudaMemsetAsync", a, 0, 1, stream) == INVALIDATED
    assert capture_status(stream) == 0


def test_waiting_for_a_captured_event_invalidates():
    event = made("cudaEventCreate")
    with capture(RELAXED, want=INVALIDATED) as (stream, _):
        call("cudaEventRecord", event, stream)
        assert error_of("cudaEventSynchronize", event) == CAPTURED_EVENT


def test_the_default_stream_cannot_be_captured_nor_wait_for_a_capture():
    assert error_of("cudaStreamBeginCapture", None, RELAXED) == UNSUPPORTED
    a, stream, graph = allocated(b"abc"), new_stream(BLOCKING), ctypes.c_void_p()
    call("cudaStreamBeginCapture", stream, RELAXED)
    assert error_of("cudaMemsetAsync", a, 0, 1, None) == IMPLICIT
    assert error_of("cudaStreamEndCapture", stream, ctypes.byref(graph)) == INVALIDATED


def test_another_thread_cannot_end_a_capture():
    with capture(THREAD_LOCAL, want=INVALIDATED) as (stream, graph):
        assert in_thread(lambda: error_of("cudaStreamEndCapture", stream, ctypes.byref(graph))) == WRONG_THREAD


def test_a_stream_that_does_not_come_back():
    side, event, address = new_stream(), made("cudaEventCreate"), allocated(b"abc")
    with capture(want=UNJOINED) as (stream, _):
        call("cudaEventRecord", event, stream)
        call("cudaStreamWaitEvent", side, event, 0)
        call("cudaMemsetAsync", address, 0, 1, side)
    assert capture_status(side) == 0


def test_reset_abandons_captures():
    stream = new_stream()
    call("cudaStreamBeginCapture", stream, GLOBAL)
    fakecard.reset()
    assert capture_status(stream) == 0
    made("cudaMalloc", 4)


def test_capture_information():
    status, identity, graph = ctypes.c_int(), ctypes.c_uint64(), ctypes.c_void_p()
    nodes, count = ctypes.c_void_p(), ctypes.c_size_t()
    info = [ctypes.byref(it) for it in (status, identity, graph, nodes, count)]
    a = allocated(b"abc")
    with capture() as (stream, _):
        call("cudaMemsetAsync", a, 0, 1, stream)
        call("cudaMemsetAsync", a, 1, 1, stream)
        call("cudaStreamGetCaptureInfo_v2", stream, *info)
        assert (status.value, bool(identity.value), bool(graph.value), count.value) == (1, True, True, 1)
    call("cudaStreamGetCaptureInfo_v2", stream, *info)
    assert status.value == 0


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
