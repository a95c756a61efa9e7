"""Lazy upload among streams and threads: who asks for bytes waits for who wrote them."""

import ctypes
import threading

import fakecard
import pytest
import torch
from on_card import CARD, device_bytes, unseen_address, values

pytestmark = pytest.mark.usefixtures("fallback")


@pytest.fixture(scope="module")
def fallback(lazy_fallback):
    return lazy_fallback


@pytest.fixture
def latency():
    yield lambda ms: fakecard.change(latency_ms=ms)
    torch.cuda.synchronize()
    fakecard.change(latency_ms=0)


def download_later(x):
    """The bytes of the card at this point of the default stream, into pinned memory, without waiting."""
    down = torch.empty(x.shape, pin_memory=True)
    to, at = ctypes.c_void_p(down.data_ptr()), ctypes.c_void_p(unseen_address(x))
    assert ctypes.CDLL("libcuda.so.1").cuMemcpyDtoHAsync_v2(to, at, ctypes.c_size_t(4 * x.numel()), None) == 0
    return down


def test_streams_see_each_other_through_events(latency):
    latency(3)
    side = torch.cuda.Stream()
    for i in range(4):
        with torch.cuda.stream(side):
            x = values(40_000).to(CARD) * i
        torch.cuda.current_stream().wait_stream(side)
        down = download_later(x)
        torch.cuda.synchronize()
        assert torch.equal(down, values(40_000) * i)


def test_the_stream_that_asks_waits_for_the_stream_that_wrote(latency):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        x = values(40_000).to(CARD) * 2
    latency(80)
    x.data_ptr()  # goes up in the side stream, late
    latency(1)
    down = download_later(x)
    torch.cuda.synchronize()
    assert torch.equal(down, values(40_000) * 2)


def test_writes_in_another_stream_come_after_earlier_ones(latency):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        x = values(40_000).to(CARD) * 2
    latency(80)
    x.add_(1)  # what the side stream was to upload is on its way, late
    latency(1)
    x.add_(1)
    torch.cuda.synchronize()
    assert torch.equal(device_bytes(unseen_address(x), 40_000), values(40_000) * 2 + 1 + 1)


def test_the_flushing_thread_need_not_be_the_writing_one():
    fakecard.change(latency_ms=2)
    wrong = []
    stop = threading.Event()

    def write(number):
        with torch.cuda.stream(torch.cuda.Stream()):
            x = values(20_000).to(CARD)
            for i in range(30):
                y = x * (number + i)
                y.add_(1)
                if not torch.equal(y.cpu(), values(20_000) * (number + i) + 1):
                    wrong.append((number, i))
            torch.cuda.current_stream().synchronize()
            if not torch.equal(device_bytes(unseen_address(y), 20_000), y.cpu()):
                wrong.append(number)

    def synchronize():
        while not stop.is_set():
            torch.cuda.synchronize()

    try:
        writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        flusher = threading.Thread(target=synchronize)
        for thread in (flusher, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        flusher.join()
    finally:
        fakecard.change(latency_ms=0)
    assert not wrong
