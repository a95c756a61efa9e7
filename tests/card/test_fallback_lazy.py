"""Lazy upload: the same results, and the card's bytes are right wherever something can see them."""

import contextlib
import ctypes
import io
import itertools
import tempfile
import types

import blackwell_compat as bc
import fakecard
import pytest
import test_fallback_random
import test_fallback_semantics
import torch
from blackwell_compat import _C
from on_card import CARD, assert_no_launch, device_bytes, unseen_address, values

pytestmark = pytest.mark.usefixtures("fallback")
NUMBERS = itertools.count(1)
HERE = fakecard.names_here()[0]

# Everything that holds for uploads at once holds for lazy ones
for module in (test_fallback_semantics, test_fallback_random):
    globals().update({name: test for name, test in vars(module).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def fallback(lazy_fallback):
    return lazy_fallback


@pytest.fixture
def host_limit():
    default = _C.fallback_host_limit()
    yield default
    bc.set_host_cache(default)


def ahead():
    """A result that only the host has, its address, and its values, which no earlier memory holds."""
    number = next(NUMBERS)
    x, want = values(64).to(CARD) + number, values(64) + number
    assert not torch.equal(device_bytes(unseen_address(x), 64), want)
    return x, unseen_address(x), want


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def uploads():
    return fakecard.counters()["h2d"]


def test_results_stay_on_the_host_until_asked_for(fallback):
    x = values(64).to(CARD)
    fallback.reset_fallbacks()
    before = uploads()
    y = (x * 2 + 1).relu()
    y.add_(1)
    assert torch.equal(y.cpu(), (values(64) * 2 + 1).relu() + 1)
    assert uploads() == before
    torch.cuda.synchronize()
    assert uploads() == before + 1
    report = fallback.fallbacks()
    (line,) = (line for line in report.lines if line.op == "lazy upload")
    assert (line.to_device, line.to_device_bytes) == (1, 256)
    assert report.totals.to_device == 1


def test_what_was_freed_is_never_uploaded():
    x, _, _ = ahead()
    before = uploads()
    del x
    torch.cuda.synchronize()
    assert uploads() == before


def share(x):
    with contextlib.suppress(RuntimeError):  # the fake card has no handles for other processes
        x.untyped_storage()._share_cuda_()


def write_file(x):
    with tempfile.TemporaryFile() as file:
        x.untyped_storage()._write_file(file, True, False, 1)
        file.seek(0)
        assert file.read() == bytes(x.untyped_storage().cpu())


FLUSHES = {
    "synchronize": lambda x: torch.cuda.synchronize(),
    "stream": lambda x: torch.cuda.current_stream().synchronize(),
    "event": lambda x: torch.cuda.Event().record(),
    "record_event": lambda x: torch.cuda.current_stream().record_event(),
    "wait_stream": lambda x: torch.cuda.Stream().wait_stream(torch.cuda.current_stream()),
    "data_ptr": lambda x: x.data_ptr(),
    "of a view": lambda x: x[3:].view(1, -1).data_ptr(),
    "storage": lambda x: x.untyped_storage().data_ptr(),
    "typed storage": lambda x: x.storage().data_ptr(),
    "parameter": lambda x: torch.nn.Parameter(x).data_ptr(),
    "__dlpack__": lambda x: x.__dlpack__(),
    "to_dlpack": lambda x: torch.utils.dlpack.to_dlpack(x),
    "torch.to_dlpack": lambda x: torch.to_dlpack(x),
    "from_dlpack": lambda x: torch.from_dlpack(x),
    "__cuda_array_interface__": lambda x: x.__cuda_array_interface__,
    "record_stream": lambda x: x.record_stream(torch.cuda.Stream()),
    "set_": lambda x: torch.empty(0, device=CARD).set_(x),
    "host cache": lambda x: bc.set_host_cache(0),
    "lazy off": lambda x: bc.set_lazy_upload(False),
    "lazy off in C++": lambda x: _C.fallback_set_lazy(False),
    "wait_event": lambda x: torch.cuda.Stream().wait_event(torch.cuda.Event()),
    "Event.synchronize": lambda x: torch.cuda.Event().synchronize(),
    "sharing": share,
    "_write_file": write_file,
    "legacy torch.save": lambda x: torch.save(x, io.BytesIO(), _use_new_zipfile_serialization=False),
}


if hasattr(torch, "accelerator"):  # torch 2.6 and newer
    FLUSHES["accelerator"] = lambda x: torch.accelerator.synchronize()


@pytest.mark.parametrize("flush", FLUSHES.values(), ids=FLUSHES)
def test_flushes(flush, host_limit):
    x, address, want = ahead()
    try:
        flush(x)
        assert torch.equal(device_bytes(address, 64), want)
        assert torch.equal((x + 1).cpu(), want + 1)
    finally:
        bc.set_lazy_upload(True)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_torch_save(new_format):
    x, _, want = ahead()
    out = io.BytesIO()
    torch.save(x, out, _use_new_zipfile_serialization=new_format)
    out.seek(0)
    assert torch.equal(torch.load(out, weights_only=True).cpu(), want)


def test_storages_are_copied_from_the_host():
    x, _, want = ahead()
    assert x.untyped_storage().cpu().tolist() == want.untyped_storage().tolist()
    assert x.untyped_storage().clone().cpu().tolist() == want.untyped_storage().tolist()


@pytest.mark.parametrize("between", [lambda: None, _C.fallback_drop_copies], ids=["at once", "after a foreign writer"])
def test_an_address_that_is_known_sees_later_writes(between):
    x, _, want = ahead()
    address = x.data_ptr()
    between()
    x.mul_(3)
    assert torch.equal(device_bytes(address, 64), want * 3)


def test_an_address_taken_before_uploads_were_lazy():
    bc.set_lazy_upload(False)
    x = values(64).to(CARD)
    address = x.data_ptr()
    bc.set_lazy_upload(True)
    x.mul_(3)
    assert torch.equal(device_bytes(address, 64), values(64) * 3)


def test_memory_of_others_is_written_at_once():
    x = values(64).to(CARD)
    shared = torch.from_dlpack(x)
    shared.add_(1)
    assert torch.equal(device_bytes(unseen_address(x), 64), values(64) + 1)


@pytest.mark.parametrize("lazily", [False, True], ids=["at once", "lazily"])
def test_two_storages_of_the_same_memory(lazily):
    """What one writes the other reads, as views of one tensor do."""
    x = values(64).to(CARD)
    with bc.lazy_upload() if lazily else contextlib.nullcontext():
        y = x * 2
        shared = torch.from_dlpack(y)
        part = types.SimpleNamespace(__cuda_array_interface__=y[8:16].__cuda_array_interface__)
        part = torch.as_tensor(part, device=CARD)
        want = values(64) * 2
        for written, place in ((shared, slice(None)), (y, slice(None)), (part, slice(8, 16)), (y, slice(None))):
            written.add_(1)
            want[place] += 1
            assert torch.equal((y * 1).cpu(), want)
            assert torch.equal((shared * 1).cpu(), want)
            assert torch.equal((part * 1).cpu(), want[8:16])
        shared.copy_(values(64) - 3)
        assert torch.equal((y * 1).cpu(), values(64) - 3)


def test_parts_that_were_written_join():
    x = values(1000).to(CARD) * 1
    torch.cuda.synchronize()
    before = uploads()
    x[10:20].zero_()
    x[500:600].fill_(7)
    want = values(1000)
    want[10:20], want[500:600] = 0, 7
    torch.cuda.synchronize()
    assert uploads() == before + 1
    assert torch.equal(device_bytes(unseen_address(x), 1000), want)


def test_resize_keeps_what_the_host_has():
    x, _, want = ahead()
    x.resize_(200)
    assert torch.equal(x[:64].cpu(), want)
    torch.cuda.synchronize()
    assert torch.equal(device_bytes(unseen_address(x), 64), want)
    y, _, want = ahead()
    y.untyped_storage().resize_(4 * 100)
    assert torch.equal(y.cpu(), want)


def test_an_out_argument_that_grows_keeps_the_rest():
    base, _, want = ahead()
    out = base[60:]
    with pytest.warns(UserWarning, match="resized"):
        torch.add(values(20).to(CARD), 1, out=out)
    assert torch.equal(out.cpu(), values(20) + 1)
    assert torch.equal(base[:60].cpu(), want[:60])


def test_copies_from_the_host_join_what_is_around_them():
    x, address, want = ahead()
    x[8:16].copy_(torch.arange(8.0))
    want[8:16] = torch.arange(8.0)
    assert torch.equal(x.cpu(), want)
    torch.cuda.synchronize()
    assert torch.equal(device_bytes(address, 64), want)


def test_an_op_that_throws_loses_nothing():
    x, address, want = ahead()
    with pytest.raises(RuntimeError, match="must match the size"):
        x.add_(values(7).to(CARD))
    assert torch.equal(x.cpu(), want)
    torch.cuda.synchronize()
    assert torch.equal(device_bytes(address, 64), want)


def test_an_upload_that_fails_is_tried_again():
    _x, address, want = ahead()
    fakecard.fault("copy", 2, match="h2d")
    with pytest.raises(RuntimeError, match=r"CUDA driver: cuMemcpyHtoDAsync.*\(2\)"):
        torch.cuda.synchronize()
    fakecard.reset()
    torch.cuda.synchronize()
    assert torch.equal(device_bytes(address, 64), want)


def test_invalidate_keeps_the_newer_side_of_each_byte(fallback):
    x, address, want = ahead()
    host = torch.full((16,), 5.0)
    driver = ctypes.CDLL("libcuda.so.1")
    assert driver.cuMemcpyHtoD_v2(ctypes.c_ulonglong(address + 64), ctypes.c_void_p(host.data_ptr()), 64) == 0
    fallback.invalidate(x[16:32])
    want[16:32] = 5
    assert torch.equal(x.cpu(), want)
    assert torch.equal(device_bytes(address, 64), want)


def test_memory_pressure_uploads_what_goes(host_limit):
    bc.set_host_cache(1 << 20)
    kept = [values(1 << 16).to(CARD) + i for i in range(12)]  # 256 KiB each
    assert _C.fallback_host_bytes() <= 1 << 20
    assert all(torch.equal(t.cpu(), values(1 << 16) + i) for i, t in enumerate(kept))
    torch.cuda.synchronize()
    assert all(torch.equal(device_bytes(unseen_address(t), 1 << 16), values(1 << 16) + i) for i, t in enumerate(kept))


@pytest.mark.parametrize("lazy", [False, True], ids=["at once", "lazy"])
def test_ten_thousand_sentences_of_any_length_do_not_grow(lazy, host_limit):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(50, 32), torch.nn.Linear(32, 192), torch.nn.ReLU()).to(CARD)
    lengths = torch.randint(1, 200, (10_000,)).tolist()
    limit = 4 << 20
    bc.set_host_cache(limit)
    bc.set_lazy_upload(lazy)
    try:
        with torch.inference_mode():
            for i, length in enumerate(lengths):
                model(torch.zeros(1, length, dtype=torch.long, device=CARD))
                if i == 2000:
                    before, pinned = resident(), _C.fallback_pinned_bytes()
                assert i % 100 or _C.fallback_host_bytes() <= limit
        assert resident() - before < 16 << 20
        assert _C.fallback_pinned_bytes() <= pinned + (4 << 20)
    finally:
        bc.set_lazy_upload(True)


def test_tiny_results_do_not_pile_up():
    one = torch.ones(1).to(CARD)
    for _ in range(30_000):
        one + one
    before = resident()
    for _ in range(60_000):
        one + one
    assert resident() - before < 8 << 20


def test_a_graph_begins_and_replays_with_the_newest_bytes():
    _x, address, want = ahead()
    graph = torch.cuda.CUDAGraph()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        graph.capture_begin()
        graph.capture_end()
    assert torch.equal(device_bytes(address, 64), want)
    _y, address, want = ahead()
    graph.replay()
    assert torch.equal(device_bytes(address, 64), want)


def test_ops_of_libraries_that_came_later_see_the_card():
    seen = []
    library = torch.library.Library("later_than_enable", "DEF")
    library.define("look(Tensor x) -> Tensor")
    library.impl("look", lambda x: seen.append(device_bytes(unseen_address(x), 64)) or x.clone(), "CUDA")
    for call in (torch.ops.later_than_enable.look, torch.ops.later_than_enable.look.default):
        x, _, want = ahead()
        call(x)
        assert torch.equal(seen[-1], want)


def test_two_cards_and_disable():
    code = """
    import ctypes, torch, blackwell_compat as bc
    def bytes_of(x):
        host = torch.empty(6)
        with torch.cuda.device(x.device):
            at, to = ctypes.c_void_p(torch._C.TensorBase.data_ptr(x)), ctypes.c_void_p(host.data_ptr())
            assert ctypes.CDLL("libcuda.so.1").cuMemcpyDtoH_v2(to, at, ctypes.c_size_t(24)) == 0
        return host
    names = [(torch.Tensor, "data_ptr"), (torch.UntypedStorage, "resize_"), (torch.cuda, "synchronize"),
             (torch.cuda.Event, "record"), (torch._ops.OpOverload, "__call__"), (torch.utils.dlpack, "to_dlpack")]
    before = [vars(owner).get(name) for owner, name in names]
    bc.enable()
    during = [vars(owner)[name] for owner, name in names]
    x = torch.arange(6.0)
    first, second = x.to("cuda:0") * 2, x.to("cuda:1") * 3
    across = (first + 1).to("cuda:1")
    assert not torch.equal(bytes_of(first), x * 2) and not torch.equal(bytes_of(second), x * 3)
    assert torch.equal(across.cpu(), x * 2 + 1)
    bc.disable()
    assert torch.equal(bytes_of(first), x * 2)
    assert torch.equal(bytes_of(second), x * 3)
    assert torch.equal(bytes_of(across), x * 2 + 1)
    assert torch.equal(first.cpu(), x * 2)
    assert [vars(owner).get(name) for owner, name in names] == before
    assert all(vars(owner).get(name) is not was for (owner, name), was in zip(names, during))
    try:
        bc.set_lazy_upload(True)
    except RuntimeError as error:
        assert "call blackwell_compat.enable() first" in str(error)
    print("two")
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLACKWELL_COMPAT_LAZY", "1")
        done = fakecard.run(code, [HERE, HERE], latency_ms=3)
    assert (done.returncode, done.stdout) == (0, "two\n"), done.stderr


def test_lazy_for_a_block():
    bc.set_lazy_upload(False)
    try:
        with bc.lazy_upload():
            with bc.lazy_upload():
                x, address, want = ahead()
            assert not torch.equal(device_bytes(address, 64), want)
        assert torch.equal(device_bytes(address, 64), want)
        y = x * 2
        assert torch.equal(device_bytes(unseen_address(y), 64), want * 2)
    finally:
        bc.set_lazy_upload(True)


def test_the_variable_is_checked(monkeypatch):
    monkeypatch.setenv("BLACKWELL_COMPAT_LAZY", "yes")
    with pytest.raises(ValueError, match="BLACKWELL_COMPAT_LAZY must be 0 or 1, got 'yes'"):
        bc.enable()
    assert_no_launch()
