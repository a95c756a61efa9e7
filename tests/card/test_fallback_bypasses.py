"""What goes past the dispatcher: chosen attention, replayed graphs, Triton's and inductor's kernels, collectives."""

import contextlib
import ctypes
import sys
from types import ModuleType

import fakecard
import pytest
import torch
from on_card import CARD, assert_no_launch, same, values
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

pytestmark = pytest.mark.usefixtures("fallback")

FORCED = ["FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH"]


def write_unseen(x, value):
    """As a kernel would that nobody tells of."""
    host = torch.full(x.shape, value, dtype=x.dtype)
    copied = ctypes.CDLL("libcuda.so.1").cuMemcpyHtoD_v2(
        ctypes.c_ulonglong(x.data_ptr()), ctypes.c_void_p(host.data_ptr()), ctypes.c_size_t(host.nbytes)
    )
    assert copied == 0


def attention(d):
    q, k, v = (values(2, 3, 7, 8).mul(f).to(d).requires_grad_() for f in (1, 2, 3))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    y.square().sum().backward()
    return y, q.grad, k.grad, v.grad


@pytest.mark.parametrize("name", [name for name in FORCED if hasattr(SDPBackend, name)])
def test_attention_chosen_by_force_computes(name):
    before = torch.backends.cuda.math_sdp_enabled(), torch.backends.cuda.flash_sdp_enabled()
    with sdpa_kernel([getattr(SDPBackend, name)]):
        got = attention(CARD)
    for on_card, on_cpu in zip(got, attention("cpu"), strict=True):
        same(on_card, on_cpu, tolerance=1e-6)
    assert (torch.backends.cuda.math_sdp_enabled(), torch.backends.cuda.flash_sdp_enabled()) == before
    assert_no_launch()


def set_cudnn():
    with torch.backends.__allow_nonbracketed_mutation():  # torch.testing._internal forbids it
        torch.backends.cudnn.enabled = True
    return contextlib.nullcontext()


@pytest.mark.parametrize(
    "set_enabled", [set_cudnn, lambda: torch.backends.cudnn.flags(enabled=True)], ids=["set", "flags"]
)
@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda make: make.__name__)
def test_cudnn_stays_off(make, set_enabled):
    """Code for training sets it, and what picks cuDNN's ops for cards has no other way on this one."""
    module, x = make(8, 6, bidirectional=True), values(5, 2, 8)
    want, _ = module(x)
    with set_enabled():
        got, _ = module.to(CARD)(x.to(CARD))
        assert not torch.backends.cudnn.enabled
    same(got, want, tolerance=1e-6)
    assert_no_launch()


@pytest.mark.parametrize("name", ["_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"])
def test_an_op_that_only_cuda_has_says_what_to_do(name):
    q = values(2, 3, 7, 8).half().to(CARD)
    rest = [None, False] if "efficient" in name else []
    told = rf"aten::{name}: PyTorch has a kernel of it for CUDA, .*none for CPU; call torch.nn.functional.scaled_dot"
    with pytest.raises(NotImplementedError, match=told):
        getattr(torch.ops.aten, name)(q, q, q, *rest)
    assert_no_launch()


def test_a_replayed_graph_writes():
    x, source = values(64).to(CARD), torch.full((64,), 5.0).to(CARD)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        graph.capture_begin()
        x.copy_(source)
        graph.capture_end()
    assert torch.equal((x + 1).cpu(), values(64) + 1)  # on the host from here on
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal((x + 1).cpu(), torch.full((64,), 6.0))


def stand_in(name, path, monkeypatch):
    """A module `name` with the class that starts Triton's kernels, which writes to its argument."""
    (path / "jit.py").write_text("class JITFunction:\n    def run(self, x, write):\n        write(x, 7.0)\n")
    for parent in ("triton", "triton.runtime"):
        module = ModuleType(parent)
        module.__path__ = [str(path)]
        monkeypatch.setitem(sys.modules, parent, module)
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("when", ["before", "after"])
def test_kernels_of_triton_write(when, tmp_path, monkeypatch, fallback):
    stand_in("triton.runtime.jit", tmp_path, monkeypatch)
    fallback.disable()
    try:
        if when == "before":
            from triton.runtime.jit import JITFunction
        fallback.enable()
        from triton.runtime.jit import JITFunction

        x = values(64).to(CARD)
        assert torch.equal((x + 1).cpu(), values(64) + 1)
        JITFunction().run(x, write_unseen)
        assert torch.equal((x + 1).cpu(), torch.full((64,), 8.0))
        fallback.disable()
        assert JITFunction.run.__name__ == "run"
    finally:
        fallback.disable()
        monkeypatch.undo()
        monkeypatch.setenv("BLACKWELL_COMPAT_FALLBACK", "silent")
        fallback.enable()


def test_what_inductor_would_compile_runs_as_it_is(caplog, fallback):
    def function(x):
        return (x * 2).relu().sum(0)

    fallback.disable()
    fallback.enable()  # warns anew
    fakecard.reset()  # it has looked whether PyTorch's kernels run

    x = values(4, 3)
    for options in ({"backend": "eager"}, {"backend": "aot_eager"}, {}, {"mode": "reduce-overhead", "fullgraph": True}):
        torch.compiler.reset()
        same(torch.compile(function, **options)(x.to(CARD)), function(x))
    assert [record.message for record in caplog.records if record.name == "blackwell_compat"] == [
        'torch.compile: inductor writes kernels for cuda:0; there graphs run as with backend="eager"'
    ]
    assert_no_launch()


COLLECTIVES = {
    "all_reduce": lambda dist, x: dist.all_reduce(x),
    "broadcast": lambda dist, x: dist.broadcast(x, 0),
    "all_gather": lambda dist, x: dist.all_gather([x], values(64).to(CARD)),
    "reduce_scatter": lambda dist, x: dist.reduce_scatter_tensor(x, values(64).to(CARD)),
}


@pytest.fixture(scope="module")
def dist():
    """One process whose collectives do nothing."""
    dist = pytest.importorskip("torch.distributed")
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    yield dist
    dist.destroy_process_group()


@pytest.mark.parametrize("mode", [contextlib.nullcontext, torch.inference_mode], ids=["", "inference"])
@pytest.mark.parametrize("collective", COLLECTIVES.values(), ids=COLLECTIVES.keys())
def test_collectives_write_whenever_they_like(collective, mode, dist):
    with mode():
        check_collective(collective, dist)


def check_collective(collective, dist):
    x = values(64).to(CARD)
    assert torch.equal((x + 1).cpu(), values(64) + 1)
    collective(dist, x)
    for value in (3.0, 4.0):  # also after an op has read it once
        write_unseen(x, value)
        assert torch.equal((x + 1).cpu(), torch.full((64,), value + 1))
    fakecard.reset()
    x.mul_(2)
    assert torch.equal(x.cpu(), torch.full((64,), 8.0))
    assert_no_launch()


def test_disable_undoes_all_of_it(fallback):
    fallback.disable()
    try:
        assert torch.cuda.CUDAGraph.replay.__name__ == "replay"
        assert torch._TorchCompileInductorWrapper.__call__.__name__ == "__call__"
        torch.backends.cuda.enable_math_sdp(False)
        assert not torch.backends.cuda.math_sdp_enabled()
        fallback.enable()
        assert torch.backends.cuda.math_sdp_enabled()
        fallback.disable()
        assert not torch.backends.cuda.math_sdp_enabled()
    finally:
        torch.backends.cuda.enable_math_sdp(True)
        fallback.enable()
