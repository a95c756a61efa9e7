"""Streams that are captured into graphs."""

import contextlib
import ctypes
import threading

import pytest

import fakecard

from .api import (
    BLOCKING,
    D2D,
    H2D,
    INVALID_VALUE,
    allocated,
    call,
    error_of,
    made,
    new_stream,
    read,
)

pytestmark = pytest.mark.usefixtures("on_time")
GLOBAL, THREAD_LOCAL, RELAXED = range(3)
UNSUPPORTED, INVALIDATED, UNJOINED, IMPLICIT, CAPTURED_EVENT, WRONG_THREAD = 900, 901, 904, 906, 907, 908


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
