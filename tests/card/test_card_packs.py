"""Weights of convolutions are packed once on a card, and stay so within a limit; `stats()` counts."""

import ctypes
import gc
import os
import threading

import blackwell_compat as bc
import fakecard
import pytest
import reference
import torch
from by_our_kernels import CARD, on_card
from on_card import on_the_card
from packed_layers import OPS, Layer, packs
from test_fallback_models import vits

pytestmark = pytest.mark.usefixtures("chosen", "exact_products")
F = torch.nn.functional


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
                torch.testing.assert_close(got.cpu(), function(x, on_the_card(w), groups=groups), rtol=1e-4, atol=1e-4)
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

    wanted = shared.function(shared.x, on_the_card(shared.weight))
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
