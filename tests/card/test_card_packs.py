"""Weights of convolutions are packed once on a card, and again when they may have changed; `stats()` counts."""

import ctypes
import gc
import io
import os
import threading

import blackwell_compat as bc
import fakecard
import pytest
import reference
import torch
from by_our_kernels import CARD, on_card
from test_fallback_bypasses import stand_in, write_unseen
from test_fallback_models import vits

pytestmark = pytest.mark.usefixtures("chosen", "exact_products")
F = torch.nn.functional

OPS = {
    "conv1d": (F.conv1d, (24, 20, 3), (1, 20, 30)),
    "direct": (F.conv1d, (24, 4, 3), (1, 4, 30)),
    "conv_transpose1d": (lambda x, w: F.conv_transpose1d(x, w, stride=2), (20, 24, 4), (1, 20, 15)),
    "compat_conv1d": (lambda x, w: bc.compat_conv1d(x, w, padding=1), (24, 20, 3), (1, 20, 30)),
    "conv2d": (F.conv2d, (24, 20, 3, 3), (1, 20, 8, 7)),
    "conv3d": (F.conv3d, (24, 20, 1, 3, 3), (1, 20, 2, 8, 7)),
}


def packs():
    launched = fakecard.counters()["launched"]
    return sum(count for name, count in launched.items() if name.startswith("compat_conv1d_pack_"))


class Layer:
    """A convolution on the card; calling it says how many packs it launched, and checks the result."""

    def __init__(self, name="conv2d", weight=None):
        self.function, size, input_size = OPS[name]
        self.x = reference.values(*input_size)
        if weight is None:
            weight = torch.nn.Parameter(on_card(reference.values(*size, seed=1))[0])
        self.weight, self.there = weight, on_card(self.x)[0]

    def __call__(self):
        fakecard.reset()
        with torch.no_grad():
            got = self.function(self.there, self.weight)
            launched = packs()
            torch.cuda.synchronize()
            want = self.function(self.x, read(self.weight))
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4)
        return launched


def read(x):
    """The card's bytes, past every copy that is kept of them."""
    host, address = torch.empty(x.shape), torch._C.TensorBase.data_ptr(x)
    assert x.is_contiguous()
    down = ctypes.CDLL("libcuda.so.1").cuMemcpyDtoH_v2
    assert down(ctypes.c_void_p(host.data_ptr()), ctypes.c_ulonglong(address), ctypes.c_size_t(host.nbytes)) == 0
    return host


@pytest.mark.parametrize("name", OPS)
def test_packed_once(name):
    layer = Layer(name)
    in_the_second = 1 if name == "conv3d" else 0  # which packs a view of the parameter
    assert [layer() for _ in range(4)] == [1, in_the_second, 0, 0]


def test_a_tensor_that_may_be_new_at_each_call_is_kept_from_its_second_call_on():
    layer = Layer(weight=on_card(reference.values(24, 20, 3, 3))[0])
    assert [layer() for _ in range(4)] == [1, 1, 0, 0]


def test_layouts_of_one_weight_are_kept_apart():
    w = torch.nn.Parameter(on_card(reference.values(24, 12, 3, 3))[0])
    x = reference.values(1, 24, 8, 7)
    for _ in range(3):
        for groups in (1, 2):
            for function in (F.conv2d, F.conv_transpose2d):
                if function is F.conv2d and groups == 1:
                    continue
                fakecard.reset()
                with torch.no_grad():
                    got = function(x.to(CARD), w, groups=groups)
                torch.testing.assert_close(got.cpu(), function(x, read(w), groups=groups), rtol=1e-4, atol=1e-4)
    assert packs() == 0


def decoder():
    model, _ = vits()
    return model.decoder, (reference.values(1, 32, 12),)


def unet():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.down = torch.nn.Conv2d(4, 24, 3, padding=1)
            self.low = torch.nn.Conv2d(24, 40, 3, stride=2, padding=1)
            self.norm = torch.nn.GroupNorm(4, 40)
            self.mid = torch.nn.Conv2d(40, 40, 3, padding=1)
            self.up = torch.nn.ConvTranspose2d(40, 24, 2, stride=2)
            self.out = torch.nn.Conv2d(48, 4, 3, padding=1)

        def forward(self, x):
            wide = torch.nn.functional.silu(self.down(x))
            low = torch.nn.functional.silu(self.norm(self.low(wide)))
            return self.out(torch.cat([self.up(self.mid(low) + low), wide], 1))

    return Net(), (reference.values(2, 4, 12, 12),)


@pytest.mark.parametrize("make", [decoder, unet], ids=lambda make: make.__name__)
def test_a_model_packs_in_its_first_forward_alone(make):
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    with torch.no_grad():
        want = model(*inputs)
        model.to(CARD)
        bc.patch_model(model, mode="kernel")
        counts = []
        for _ in range(3):
            fakecard.reset()
            torch.testing.assert_close(model(*on_card(*inputs)).cpu(), want, rtol=1e-4, atol=1e-4)
            counts.append(packs())
        bc.unpatch_model(model)
    assert counts[0] > 0
    assert counts[1:] == [0, 0]


# Every way a weight changes


def by_data(w):
    w.data.mul_(2)


def by_data_of_the_cpu(w):
    w.data.copy_(reference.values(*w.shape, seed=7))


def by_inference_mode(w):
    with torch.inference_mode():
        w.detach().mul_(2)


def by_out(w):
    with torch.no_grad():
        torch.mul(w, 3, out=w.data)


def by_a_view(w):
    with torch.no_grad():
        w.view(-1)[1::3].fill_(7)


def by_zeros(w):
    w.data.zero_()


def by_copy_from_the_host(w):
    with torch.no_grad():
        w.copy_(reference.values(*w.shape, seed=5))


def by_copy_of_pinned_memory(w):
    w.data.copy_(reference.values(*w.shape, seed=5).pin_memory(), non_blocking=True)


def by_copy_within_the_card(w):
    w.data.copy_(reference.values(*w.shape, seed=5).to(CARD))


def by_another_dtype(w):
    w.data.copy_(reference.values(*w.shape, seed=5).double().to(CARD))


def by_load_state_dict(w):
    module = torch.nn.Module()
    module.weight = w
    saved = io.BytesIO()
    torch.save({"weight": reference.values(*w.shape, seed=5)}, saved)
    saved.seek(0)
    module.load_state_dict(torch.load(saved, weights_only=True))


def by_data_assignment(w):
    w.data = reference.values(*w.shape, seed=5).to(CARD)


def by_set(w):
    with torch.no_grad():
        w.set_(reference.values(*w.shape, seed=5).to(CARD))


def by_resize(w):
    w.data.resize_(2 * w.size(0), *w.shape[1:])
    w.data = w.data[w.size(0) // 2 :]


def by_resize_of_the_storage(w):
    storage, size = w.untyped_storage(), w.untyped_storage().nbytes()
    storage.resize_(0)
    held = torch.empty(size, dtype=torch.uint8, device=CARD)  # elsewhere
    storage.resize_(size)
    w.data.copy_(reference.values(*w.shape, seed=5))
    del held


def by_fill_of_the_storage(w):
    w.untyped_storage().fill_(1)


def by_copy_of_the_storage(w):
    w.untyped_storage().copy_(reference.values(*w.shape, seed=5).untyped_storage())


def by_an_op_on_the_cpu(w):
    bc.reset_fallbacks()
    w.data.renorm_(2, 0, 0.5)
    assert [line.op for line in bc.fallbacks().lines] == ["aten::renorm_"]


def by_lazy_upload(w):
    with bc.lazy_upload():
        by_an_op_on_the_cpu(w)


def by_dlpack(w):
    torch.from_dlpack(w.detach()).mul_(2)


def optimizer(cls, **options):
    def step(w):
        w.grad = torch.ones_like(w)
        cls([w], lr=0.5, **options).step()
        w.grad = None

    return step


CHANGES = {
    "data": by_data,
    "data, from the host": by_data_of_the_cpu,
    "inference_mode": by_inference_mode,
    "out": by_out,
    "view": by_a_view,
    "zero_": by_zeros,
    "copy_": by_copy_from_the_host,
    "copy_ of pinned memory": by_copy_of_pinned_memory,
    "copy_ within the card": by_copy_within_the_card,
    "copy_ of another dtype": by_another_dtype,
    "load_state_dict": by_load_state_dict,
    "assignment to data": by_data_assignment,
    "set_": by_set,
    "resize_": by_resize,
    "resize_ of the storage": by_resize_of_the_storage,
    "fill_ of the storage": by_fill_of_the_storage,
    "copy_ of the storage": by_copy_of_the_storage,
    "op on the CPU": by_an_op_on_the_cpu,
    "lazy upload": by_lazy_upload,
    "DLPack": by_dlpack,
    "SGD, a loop": optimizer(torch.optim.SGD, foreach=False),
    "SGD, foreach": optimizer(torch.optim.SGD, foreach=True),
    "SGD, fused": optimizer(torch.optim.SGD, fused=True),
    "Adam, foreach": optimizer(torch.optim.Adam, foreach=True),
    "Adam, fused": optimizer(torch.optim.Adam, fused=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_weight_is_packed_again(change):
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    before = read(layer.weight)
    change(layer.weight)
    torch.cuda.synchronize()
    assert not torch.equal(read(layer.weight).view(-1)[:400], before.view(-1)[:400])
    assert layer() == 1


def test_a_copy_without_a_version():
    """The writers are known by themselves: `.data` counts versions of its own."""
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    version = layer.weight._version
    layer.weight.data.add_(1)
    assert layer.weight._version == version
    assert [layer(), layer(), layer()] == [1, 1, 0]


def test_a_weight_without_versions_is_not_kept():
    with torch.inference_mode():
        layer = Layer(weight=on_card(reference.values(24, 20, 3, 3))[0].clone())
    assert [layer(), layer(), layer()] == [1, 1, 1]


def test_a_version_without_a_writer():
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    torch.autograd.graph.increment_version(layer.weight)
    assert [layer(), layer(), layer()] == [1, 1, 0]


# Writers that go past the dispatcher


def test_invalidate():
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    host, address = torch.full((16,), 3.0), torch._C.TensorBase.data_ptr(layer.weight)  # as C++ code takes it
    up = ctypes.CDLL("libcuda.so.1").cuMemcpyHtoD_v2
    assert up(ctypes.c_ulonglong(address), ctypes.c_void_p(host.data_ptr()), ctypes.c_size_t(64)) == 0
    bc.invalidate(layer.weight)
    assert [layer(), layer(), layer()] == [1, 1, 0]


ADDRESSES = {
    "data_ptr": lambda w: w.data_ptr(),
    "of a view": lambda w: w.detach()[3:].data_ptr(),
    "of the storage": lambda w: w.untyped_storage().data_ptr(),
    "DLPack": lambda w: w.detach().__dlpack__(),
    "to_dlpack": lambda w: torch.utils.dlpack.to_dlpack(w.detach()),
    "__cuda_array_interface__": lambda w: w.detach().__cuda_array_interface__,
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("take", ADDRESSES.values(), ids=ADDRESSES)
def test_a_weight_whose_address_is_known_is_not_kept(take, when):
    layer = Layer()
    if when == "after":
        assert [layer(), layer()] == [1, 0]
    take(layer.weight)
    assert [layer(), layer(), layer()] == [1, 1, 1]
    write_unseen(layer.weight, 3.0)
    assert layer() == 1


def test_memory_of_other_code_is_not_kept():
    source = reference.values(24, 20, 3, 3).to(CARD)
    layer = Layer(weight=torch.nn.Parameter(torch.from_dlpack(source)))
    assert [layer(), layer(), layer()] == [1, 1, 1]
    source.mul_(2)
    assert layer() == 1


def test_a_write_through_other_storage_over_the_same_memory():
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    address, size = torch._C.TensorBase.data_ptr(layer.weight), layer.weight.untyped_storage().nbytes()
    storage = torch._C._construct_storage_from_data_pointer(address, CARD, size)
    torch.empty(0, device=CARD).set_(storage, 0, (size // 4,)).mul_(2)
    assert [layer(), layer(), layer()] == [1, 1, 0]


def test_kernels_of_triton_write(tmp_path, monkeypatch):
    stand_in("triton.runtime.jit", tmp_path, monkeypatch)
    bc.disable()
    bc.enable(CARD, force=True)
    from triton.runtime.jit import JITFunction

    def write(w, value):
        host, address = torch.full(w.shape, value), torch._C.TensorBase.data_ptr(w)
        up = ctypes.CDLL("libcuda.so.1").cuMemcpyHtoD_v2
        assert up(ctypes.c_ulonglong(address), ctypes.c_void_p(host.data_ptr()), ctypes.c_size_t(host.nbytes)) == 0

    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    JITFunction().run(layer.weight, write)
    assert [layer(), layer()] == [1, 0]


def test_collectives_write_whenever_they_like():
    dist = pytest.importorskip("torch.distributed")
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    try:
        layer = Layer()
        assert [layer(), layer()] == [1, 0]
        dist.broadcast(layer.weight.data, 0)
        assert [layer(), layer(), layer()] == [1, 1, 1]
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("name", ["_nccl_all_reduce", "_nccl_broadcast", "_broadcast_out"])
def test_functions_of_nccl_write(name):
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    with pytest.raises((TypeError, RuntimeError), match="arg"):
        getattr(torch._C, name)()
    assert layer() == 1


# Graphs


def captured(stream, function):
    graph = torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        graph.capture_begin()
        result = function()
        graph.capture_end()
    return graph, result


def test_a_graph_packs_at_each_replay():
    layer, stream = Layer(), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        assert [layer(), layer()] == [1, 0]
    held = bc.stats()
    with torch.no_grad():
        graph, got = captured(stream, lambda: layer.function(layer.there, layer.weight))
    assert bc.stats()["card_packs"] == held["card_packs"]
    for value in (2.0, 3.0):
        layer.weight.data.fill_(value)
        fakecard.reset()
        graph.replay()
        torch.cuda.synchronize()
        want = layer.function(layer.x, torch.full(layer.weight.shape, value))
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4)
    assert layer() == 1


def test_a_replay_may_write_to_weights():
    layer, source = Layer(), reference.values(24, 20, 3, 3, seed=5).to(CARD)
    assert [layer(), layer()] == [1, 0]
    graph, _ = captured(torch.cuda.Stream(), lambda: layer.weight.data.copy_(source))
    while layer():
        pass
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(read(layer.weight), source.cpu())
    assert [layer(), layer()] == [1, 0]


# Streams and threads


def test_each_stream_has_packs_of_its_own():
    layer, side = Layer(), torch.cuda.Stream()
    assert [layer(), layer()] == [1, 0]
    with torch.cuda.stream(side):
        assert [layer(), layer(), layer()] == [1, 1, 0]
    assert layer() == 0
    layer.weight.data.mul_(2)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        assert layer() == 1
    assert layer() == 1


def test_nothing_is_kept_for_a_stream_of_other_code():
    layer, handle = Layer(), ctypes.c_void_p()
    runtime = ctypes.CDLL(None)
    assert runtime.cudaStreamCreate(ctypes.byref(handle)) == 0
    with torch.cuda.stream(torch.cuda.ExternalStream(handle.value)):
        assert [layer(), layer(), layer()] == [1, 1, 1]
    torch.cuda.synchronize()


def test_late_streams():
    """What a pack reads is written late, and the pack is made late, in the order of the stream."""
    layer = Layer()
    fakecard.change(latency_ms=20)
    try:
        for seed in range(4):
            layer.weight.data.copy_(reference.values(24, 20, 3, 3, seed=seed).pin_memory(), non_blocking=True)
            with torch.no_grad():
                for _ in range(3):
                    got = layer.function(layer.there, layer.weight)
            torch.cuda.synchronize()
            want = layer.function(layer.x, reference.values(24, 20, 3, 3, seed=seed))
            torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4)
    finally:
        torch.cuda.synchronize()
        fakecard.change(latency_ms=0)


def test_threads():
    layers, failed = [Layer(name) for name in OPS], []
    shared = Layer()

    def work(layer):
        try:
            with torch.no_grad():
                for i in range(12):
                    if i % 4 == 3:
                        layer.weight.data.mul_(-1)
                    if i % 5 == 4:
                        bc.stats()
                    want = layer.function(layer.x, layer.weight.cpu())
                    got = layer.function(layer.there, layer.weight).cpu()
                    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
                    common = shared.function(shared.there, shared.weight).cpu()
                    torch.testing.assert_close(common, wanted, rtol=1e-4, atol=1e-4)
        except BaseException as error:
            failed.append(error)

    wanted = shared.function(shared.x, read(shared.weight))
    threads = [threading.Thread(target=work, args=(layer,)) for layer in layers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert bc.stats()["card_packs"] >= 1


# Memory


def test_stats_count():
    before = bc.stats()
    layer = Layer()
    assert [layer(), layer(), layer()] == [1, 0, 0]
    after = bc.stats()
    assert after["card_packs"] == before["card_packs"] + 1
    assert after["card_pack_bytes"] == before["card_pack_bytes"] + 24 * 20 * 9 * 4
    assert after["card_packs_made"] == before["card_packs_made"] + 1
    assert after["card_packs_reused"] == before["card_packs_reused"] + 2
    assert 0 < after["card_pack_bytes"] <= after["card_pack_capacity"]


def test_the_pack_of_a_freed_weight_is_freed():
    gc.collect()
    torch.cuda.synchronize()
    before, held = bc.stats(), torch.cuda.memory_allocated()
    layer = Layer()
    layer()
    assert bc.stats()["card_packs"] == before["card_packs"] + 1
    del layer
    gc.collect()
    after = bc.stats()
    assert (after["card_packs"], after["card_pack_bytes"]) == (before["card_packs"], before["card_pack_bytes"])
    assert torch.cuda.memory_allocated() == held


def test_a_weight_computed_at_each_call_leaves_nothing_behind():
    source, x = Layer(), reference.values(1, 20, 8, 7).to(CARD)
    before = bc.stats()
    with torch.no_grad():
        for _ in range(200):
            F.conv2d(x, source.weight * 2)
    after = bc.stats()
    assert (after["card_packs"], after["card_packs_made"]) == (before["card_packs"], before["card_packs_made"])


def test_training_keeps_nothing():
    layer = Layer()
    optimizer = torch.optim.SGD([layer.weight], lr=0.1)
    before = bc.stats()
    for _ in range(4):
        fakecard.reset()
        layer.function(layer.there, layer.weight).square().mean().backward()
        assert packs() == 1
        optimizer.step()
        optimizer.zero_grad()
    assert bc.stats()["card_packs"] == before["card_packs"]
    assert [layer(), layer()] == [1, 1]


def test_a_weight_that_changes_at_each_call_is_not_kept():
    layer = Layer()
    layer()
    before = bc.stats()
    for _ in range(5):
        layer.weight.data.add_(1)
        assert layer() == 1
    after = bc.stats()
    assert after["card_packs_made"] == before["card_packs_made"]
    assert after["card_packs"] == before["card_packs"] - 1


def test_disable_drops_all():
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    bc.disable()
    assert bc.stats()["card_packs"] == 0
    with torch.no_grad():
        fakecard.reset()
        bc.compat_conv1d(torch.empty(1, 20, 9, device=CARD), torch.empty(24, 20, 3, device=CARD))
        bc.compat_conv1d(torch.empty(1, 20, 9, device=CARD), torch.empty(24, 20, 3, device=CARD))
    assert packs() == 2
    assert bc.stats()["card_packs"] == 0
    bc.enable(CARD, force=True)
    assert [layer(), layer()] == [1, 0]


@pytest.mark.parametrize(("limit", "kept"), [("0", 0), (str(24 * 20 * 9 * 4), 1)])
def test_the_limit(limit, kept, monkeypatch):
    bc.disable()
    monkeypatch.setenv("BLACKWELL_COMPAT_CARD_PACK_BYTES", limit)
    bc.enable(CARD, force=True)
    try:
        refused = bc.stats()["card_packs_refused"]
        first, second = Layer(), Layer()
        assert [first(), first(), second(), second()] == [1, 1 - kept, 1, 1]
        assert bc.stats()["card_packs"] == kept
        assert bc.stats()["card_pack_capacity"] == int(limit)
        assert bc.stats()["card_packs_refused"] > refused
    finally:
        bc.disable()
        monkeypatch.undo()
        bc.enable(CARD, force=True)


def test_packs_go_where_the_card_runs_out_of_memory():
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    free, total = torch.cuda.mem_get_info()
    fakecard.change(memory_limit=total - free + (256 << 20))
    try:
        held = torch.empty(100 << 20, dtype=torch.uint8, device=CARD)
        assert bc.stats()["card_packs"] == 0
        assert [layer(), layer()] == [1, 1]
    finally:
        fakecard.change(memory_limit=0)
    also_held = torch.empty(300 << 20, dtype=torch.uint8, device=CARD)
    assert [layer(), layer()] == [1, 0]
    del held, also_held
    torch.cuda.empty_cache()


def test_a_forked_child_leaves_them_alone():
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    child = os.fork()
    if child == 0:
        weight = layer.weight
        layer = None
        del weight
        gc.collect()
        right = torch.equal(torch.ones(3) + 1, torch.full((3,), 2.0)) and bc.stats()["packs"] >= 0
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert layer() == 0
