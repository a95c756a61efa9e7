"""Streams and events: in order, and late when asked, so that a missing synchronisation shows."""

import threading
import time

import fakecard
import pytest
import torch

LATE = 150  # ms


@pytest.fixture
def late():
    fakecard.change(latency_ms=LATE)
    yield
    torch.cuda.synchronize()
    fakecard.change(latency_ms=0)


def pinned(value):
    return torch.full((1000,), float(value)).pin_memory()


@pytest.mark.usefixtures("late")
def test_a_download_without_synchronisation_is_not_there_yet():
    x, down = pinned(7).to("cuda", non_blocking=True), pinned(0)
    down.copy_(x, non_blocking=True)
    assert down.max() == 0
    torch.cuda.synchronize()
    assert down.min() == 7


@pytest.mark.usefixtures("late")
def test_an_upload_reads_pinned_memory_when_it_runs():
    up = pinned(1)
    x = torch.empty(1000, device="cuda")
    x.copy_(up, non_blocking=True)
    up.fill_(2)  # too early
    assert x.cpu().unique().tolist() == [2]


@pytest.mark.usefixtures("late")
def test_an_upload_of_pageable_memory_is_taken_at_once():
    up, x = torch.full((1000,), 1.0), torch.empty(1000, device="cuda")
    x.copy_(up, non_blocking=True)
    up.fill_(2)
    assert x.cpu().unique().tolist() == [1]


@pytest.mark.usefixtures("late")
def test_streams_do_not_wait_for_each_other():
    side = torch.cuda.Stream()
    x, down = torch.ones(1000).cuda(), pinned(0)
    torch.cuda.synchronize()
    fakecard.change(latency_ms=400)
    with torch.cuda.stream(side):
        x.copy_(pinned(5), non_blocking=True)
    fakecard.change(latency_ms=1)
    down.copy_(x, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    assert down.unique().tolist() == [1]
    torch.cuda.current_stream().wait_stream(side)
    down.copy_(x, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    assert down.unique().tolist() == [5]


@pytest.mark.usefixtures("late")
def test_events():
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    torch.empty(1000, device="cuda").copy_(pinned(1), non_blocking=True)
    end.record()
    assert not end.query()
    end.synchronize()
    assert end.query()
    assert start.elapsed_time(end) > LATE * 0.9


@pytest.mark.usefixtures("late")
def test_operations_of_a_stream_overlap_with_the_host():
    x, ups = torch.empty(1000, device="cuda"), [pinned(i) for i in range(20)]
    start = time.perf_counter()
    for up in ups:
        x.copy_(up, non_blocking=True)
    assert time.perf_counter() - start < LATE / 1000
    torch.cuda.synchronize()
    assert time.perf_counter() - start < 10 * LATE / 1000
    assert x.cpu().unique().tolist() == [19]


def test_synchronisations_are_counted():
    x, event = torch.ones(3).cuda(), torch.cuda.Event()
    fakecard.reset()
    torch.cuda.synchronize()
    torch.cuda.current_stream().synchronize()
    event.record()
    event.synchronize()
    x[0].item()
    counted = fakecard.counters()
    assert (counted["device_sync"], counted["stream_sync"], counted["event_sync"]) == (1, 2, 1)


@pytest.mark.usefixtures("late")
def test_freed_memory_waits_for_the_stream_that_used_it():
    """record_stream keeps a block from being handed out while another stream still reads it."""
    side, down = torch.cuda.Stream(), pinned(0)
    x = torch.full((1000,), 3.0).cuda()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        down.copy_(x, non_blocking=True)
    x.record_stream(side)
    address = x.data_ptr()
    del x
    y = torch.empty(1000, device="cuda")
    assert y.data_ptr() != address
    side.synchronize()
    assert down.unique().tolist() == [3]


@pytest.mark.usefixtures("late")
def test_many_threads_each_with_a_stream():
    failures = []

    def work(number):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for i in range(10):
                x = pinned(number * 100 + i).to("cuda", non_blocking=True)
                y = torch.empty_like(x).copy_(x, non_blocking=True)
                down = pinned(0)
                down.copy_(y, non_blocking=True)
                stream.synchronize()
                if down.unique().tolist() != [number * 100 + i]:
                    failures.append((number, i, down))

    fakecard.change(latency_ms=1)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
