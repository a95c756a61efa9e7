"""A weight that was packed on a card is packed again after anything that may have written to it."""

import ctypes
import io

import blackwell_compat as bc
import fakecard
import pytest
import reference
import torch
from by_our_kernels import CARD
from on_card import on_the_card
from packed_layers import Layer
from test_fallback_bypasses import stand_in, write_unseen

pytestmark = pytest.mark.usefixtures("chosen", "exact_products")


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


def assert_packed_again_after(change, layer):
    assert layer() == 0
    before = on_the_card(layer.weight)
    change(layer.weight)
    torch.cuda.synchronize()
    assert not torch.equal(on_the_card(layer.weight).view(-1)[:400], before.view(-1)[:400])
    assert layer() == 1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_weight_is_packed_again(change):
    layer = Layer()
    assert layer() == 1
    assert_packed_again_after(change, layer)


@pytest.mark.parametrize("name", [name for name in CHANGES if "SGD" not in name and "Adam" not in name])
def test_a_changed_weight_without_versions_is_packed_again(name):
    with torch.inference_mode():
        layer = Layer()
        assert layer.weight.is_inference()
        assert layer() == 1
        assert_packed_again_after(CHANGES[name], layer)


def test_a_copy_without_a_version():
    """The writers are known by themselves: `.data` counts versions of its own."""
    layer = Layer()
    assert [layer(), layer()] == [1, 0]
    version = layer.weight._version
    layer.weight.data.add_(1)
    assert layer.weight._version == version
    assert [layer(), layer(), layer()] == [1, 1, 0]


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


@pytest.mark.parametrize("inference", [False, True], ids=["grad", "inference"])
def test_collectives_write_whenever_they_like(inference):
    dist = pytest.importorskip("torch.distributed")
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    try:
        with torch.inference_mode(inference):
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
    assert torch.equal(on_the_card(layer.weight), source.cpu())
    assert [layer(), layer()] == [1, 0]
