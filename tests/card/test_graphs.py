"""Capturing PyTorch's copies into a graph and replaying it. By the runtime's own calls: before it captures anything,
torch.cuda.graph fills its seed, which takes a kernel in some releases.
"""

import contextlib
import ctypes

import fakecard
import pytest
import torch

GLOBAL, THREAD_LOCAL, RELAXED = range(3)
UNSUPPORTED, INVALIDATED, MERGE, UNMATCHED, UNJOINED, ISOLATION = range(900, 906)
runtime = ctypes.CDLL(None)


def handle(stream):
    return ctypes.c_void_p(stream.cuda_stream)


def begin(stream, mode=THREAD_LOCAL):
    assert runtime.cudaStreamBeginCapture(handle(stream), mode) == 0


def end(stream):
    """The graph, or the error's number."""
    graph = ctypes.c_void_p()
    error = runtime.cudaStreamEndCapture(handle(stream), ctypes.byref(graph))
    runtime.cudaGetLastError()
    assert bool(error) != bool(graph)
    return error or graph


@contextlib.contextmanager
def capture(mode=THREAD_LOCAL):
    """Everything on a new stream; gives a function that replays it."""
    stream, exec_ = torch.cuda.Stream(), ctypes.c_void_p()

    def replay():
        assert runtime.cudaGraphLaunch(exec_, handle(torch.cuda.current_stream())) == 0

    with torch.cuda.stream(stream):
        begin(stream, mode)
        yield replay
        graph = end(stream)
    assert runtime.cudaGraphInstantiateWithFlags(ctypes.byref(exec_), graph, ctypes.c_ulonglong(0)) == 0
    assert runtime.cudaGraphDestroy(graph) == 0


def full(value):
    return torch.full((4,), float(value)).cuda()


def test_copies_are_replayed():
    source, target = full(0), full(1)
    with capture() as replay:
        target.copy_(source)
    assert target.tolist() == [1] * 4  # recorded, not done
    for value in (5, 6):
        source.copy_(full(value))
        fakecard.reset()
        replay()
        counted = fakecard.counters()
        assert (counted["d2d"], counted["d2d_bytes"], counted["graph_launch"]) == (1, 16, 1)
        assert target.tolist() == [value] * 4


def test_nodes_run_in_the_order_of_recording():
    a, b, c = full(0), full(1), full(2)
    with capture() as replay:
        c.copy_(b)
        b.copy_(a)
    replay()
    assert (b.tolist(), c.tolist()) == ([0] * 4, [1] * 4)


def test_a_fill_is_replayed():
    x = full(3)
    with capture() as replay:
        here = handle(torch.cuda.current_stream())
        assert runtime.cudaMemsetAsync(ctypes.c_void_p(x.data_ptr()), 0, ctypes.c_size_t(8), here) == 0
    replay()
    assert x.tolist() == [0, 0, 3, 3]


def test_uploads_read_pinned_memory_at_replay():
    up, x = torch.zeros(4).pin_memory(), full(9)
    with capture() as replay:
        x.copy_(up, non_blocking=True)
    for value in (1, 2):
        up.fill_(value)
        replay()
        assert x.tolist() == [value] * 4


def test_a_stream_that_joins_is_captured_too():
    source, target, side = full(9), full(0), torch.cuda.Stream()
    with capture() as replay:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            target.copy_(source)
        torch.cuda.current_stream().wait_stream(side)
    assert target.tolist() == [0] * 4
    replay()
    assert target.tolist() == [9] * 4


def test_replay_on_late_streams():
    source, target, down = full(1), full(0), torch.zeros(4).pin_memory()
    with capture() as replay:
        target.copy_(source)
    fakecard.change(latency_ms=150)
    try:
        replay()
        down.copy_(target, non_blocking=True)
        assert down.tolist() == [0] * 4
        torch.cuda.synchronize()
        assert down.tolist() == [1] * 4
    finally:
        fakecard.change(latency_ms=0)


def test_pytorch_knows_that_it_captures():
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        assert not torch.cuda.is_current_stream_capturing()
        begin(stream)
        assert torch.cuda.is_current_stream_capturing()
        end(stream)
        assert not torch.cuda.is_current_stream_capturing()


NOT_PERMITTED = {
    "stream": lambda x: torch.cuda.current_stream().synchronize(),
    "query": lambda x: torch.cuda.current_stream().query(),
    "device": lambda x: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("body", NOT_PERMITTED.values(), ids=NOT_PERMITTED.keys())
def test_what_is_not_permitted_ends_the_capture(body):
    x, stream = full(1), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        begin(stream)
        with pytest.raises(RuntimeError, match="operation not permitted when stream is capturing"):
            body(x)
        assert end(stream) == INVALIDATED
    assert x.tolist() == [1] * 4


def test_a_stream_that_does_not_come_back():
    x, y, stream, side = full(1), full(2), torch.cuda.Stream(), torch.cuda.Stream()
    begin(stream)
    side.wait_stream(stream)
    with torch.cuda.stream(side):
        x.copy_(y)
    assert end(stream) == UNJOINED


def test_a_capture_ends_where_it_began():
    stream, side = torch.cuda.Stream(), torch.cuda.Stream()
    begin(stream)
    side.wait_stream(stream)
    assert end(side) == UNMATCHED
    assert end(stream) == INVALIDATED


def test_two_captures_cannot_merge():
    first, second, event = torch.cuda.Stream(), torch.cuda.Stream(), torch.cuda.Event()
    begin(first)
    begin(second)
    event.record(first)
    with pytest.raises(RuntimeError, match="merge of separate capture sequences"):
        second.wait_event(event)
    assert end(first) != INVALIDATED
    assert end(second) == INVALIDATED


def test_work_from_before_the_capture_cannot_be_waited_for():
    stream, event = torch.cuda.Stream(), torch.cuda.Event()
    event.record()
    begin(stream)
    with pytest.raises(RuntimeError, match="dependency created on uncaptured work in another stream"):
        stream.wait_event(event)
    assert end(stream) == INVALIDATED


def test_a_kernel_without_an_image_is_refused_while_capturing():
    x = full(1)
    with capture(), pytest.raises(RuntimeError, match="no kernel image is available"):
        x.add_(1)


def test_torch_cuda_graph():
    source, target, graph = full(1), full(0), torch.cuda.CUDAGraph()
    # The stream around it, because torch.cuda.graph leaves its own current where the end of the capture raises
    with torch.cuda.stream(torch.cuda.current_stream()), contextlib.suppress(RuntimeError), torch.cuda.graph(graph):
        target.copy_(source)
    seed_refused = any("FillFunctor<long>" in name for name in fakecard.counters()["refused"])
    if not seed_refused:
        graph.replay()
    assert target.tolist() == [0 if seed_refused else 1] * 4
