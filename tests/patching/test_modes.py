"""Which mode is taken and why, a model that moves to the CPU, and a model that is never left half changed.

There is no card here. `Card` is a tensor that says it is on cuda:0 and refuses to compute there, as on a card that the
wheel has no kernels for; copies work.
"""

from __future__ import annotations

import copy
import logging
import pickle
import threading

import blackwell_compat as bc
import pytest
import torch
from blackwell_compat.patching import modes, moving, patch, probe, rules
from patching_models import Mixed, Vocoder, close, mixed_input, snapshot
from torch import nn
from torch.utils import _pytree as pytree


class Card(torch.Tensor):
    """Data in host memory that claims to be on cuda:0."""

    @staticmethod
    def __new__(cls, data):
        t = torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=data.dtype, device="cuda:0")
        t.data_on_card = data
        return t

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default:
            return args[0].data_on_card.clone()
        if func is torch.ops.aten.detach.default:
            return Card(args[0].data_on_card)
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    def to(self, device, *args, **kwargs):
        return self.data_on_card.clone() if torch.device(device).type == "cpu" else self


REAL_TO = torch.Tensor.to


def to(t, *args, **kwargs):
    if args and isinstance(args[0], (str, torch.device)) and torch.device(args[0]).type == "cuda":
        return Card(t if not isinstance(t, Card) else t.data_on_card)
    return REAL_TO(t, *args, **kwargs)


@pytest.fixture
def on_card(monkeypatch):
    """A model whose buffer and parameters are on the card, and which can move: `.to("cuda")` gives a Card."""
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(rules, "PLAIN", (*rules.PLAIN, Card))  # a tensor on a real card is no subclass

    def put(model):
        for module in model.modules():
            for table in (module._parameters, module._buffers):
                for key, t in table.items():
                    if t is not None:
                        table[key] = Card(t.detach())
        return model

    return put


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode must be one of auto, native, kernel, hybrid, cpu, got 'gpu'"):
        bc.patch_model(nn.Linear(2, 2), "gpu")


@pytest.mark.parametrize("what", [None, "model", torch.nn.Linear, torch.ones(2)])
def test_no_module(what):
    for call in (bc.patch_model, bc.unpatch_model):
        with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got"):
            call(what)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"), bc.patched(what):
        pass


@pytest.mark.parametrize("mode", ["kernel", "hybrid"])
def test_what_cannot_be_had(mode):
    model = Mixed()
    before = snapshot(model)
    with pytest.raises(bc.NotAvailable, match="the model is on the CPU"):
        bc.patch_model(model, mode)
    assert snapshot(model) == before
    assert issubclass(bc.NotAvailable, RuntimeError)


@pytest.mark.parametrize("mode", ["auto", "cpu", "native"])
def test_a_model_on_the_cpu_runs_ours_in_every_mode(mode):
    model = Mixed()
    want = model(mixed_input())
    report = bc.patch_model(model, mode)
    assert report.mode == {"auto": "cpu"}.get(mode, mode)
    assert report.requested == mode
    assert report.modules[0].provider.startswith("ours")
    assert report.moved_bytes == 0
    assert not model._forward_pre_hooks  # nothing moves, so no hook costs anything
    close(model(mixed_input()), want)


def test_probe_of_what_works_and_of_what_does_not(monkeypatch):
    assert probe.probe("cpu") == {}
    failed = probe.probe("cuda")  # torch without CUDA, or no card
    if torch.cuda.is_available():
        return
    assert list(failed) == ["fill and add", "linear", "conv1d", "stft"]
    assert all("\n" not in why and why for why in failed.values())
    real = probe.PROBES["linear"]
    calls = []

    def wrong(device):
        calls.append(device)
        return real(device) + (1 if len(calls) == 1 else 0)

    monkeypatch.setitem(probe.PROBES, "linear", wrong)
    assert probe.probe("cpu") == {"linear": "wrong numbers, off by 1"}


def test_native_where_the_card_works(on_card, monkeypatch):
    monkeypatch.setattr(modes, "examine", lambda device: {})
    model = on_card(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)))
    report = bc.patch_model(model)
    assert (report.mode, report.why) == ("native", "PyTorch's kernels work on cuda:0")
    assert report.modules[0].provider == "torch"
    assert "on cuda:0 PyTorch's kernels run" in report.modules[0].reason
    assert report.moved_bytes == 0
    assert isinstance(model[0].weight, Card)
    assert not model._forward_pre_hooks


def test_hybrid_asked_for_where_the_card_works(on_card, monkeypatch):
    monkeypatch.setattr(modes, "examine", lambda device: {})
    model = on_card(nn.Sequential(nn.Linear(4, 4)))
    report = bc.patch_model(model, "hybrid", dry_run=True)
    why = "asked for; PyTorch's kernels work on cuda:0, and are out of the way until disable()"
    assert (report.mode, report.why) == ("hybrid", why)


def test_hybrid_without_a_card_that_works_at_all(on_card, caplog):
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    model = on_card(nn.Sequential(nn.Linear(4, 4)))
    report = bc.patch_model(model, "hybrid")
    assert report.mode == "cpu"
    assert "hybrid raised: enable: torch finds no CUDA device" in report.why
    assert type(model(Card(torch.ones(1, 4)))) is Card
    assert not bc.is_enabled()


def test_native_asked_for_where_the_card_does_not_work(on_card):
    model = on_card(nn.Sequential(nn.Linear(4, 4)))
    before = snapshot(model)
    with pytest.raises(bc.NotAvailable, match=r"PyTorch's kernels do not work on cuda:0 \("):
        bc.patch_model(model, "native")
    assert snapshot(model) == before


class Returns(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.register_buffer("offset", torch.ones(4))

    def forward(self, x, *, more=None, fail=False):
        if fail:
            raise ValueError("asked to")
        y = self.lin(x) + self.offset
        return {"y": y, "list": [y, 3], "more": None if more is None else more["z"] * 2}


def test_auto_moves_to_the_cpu_where_the_card_does_not_work(on_card, caplog):
    torch.manual_seed(0)
    plain = Returns()
    model = on_card(copy.deepcopy(plain))
    x, z = torch.randn(2, 4), torch.randn(2, 4)
    with caplog.at_level(logging.INFO, logger="blackwell_compat"):
        report = bc.patch_model(model)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]  # INFO: no fallback without CUDA
    assert "mode cpu: PyTorch's kernels do not work on cuda:0 (" in caplog.text
    assert report.mode == "cpu"
    assert "op by op on the CPU the model would be slower" in report.why
    assert report.modules[0].provider.startswith("ours")
    assert report.moved_bytes == (16 + 4 + 4) * 4
    assert "MB moved to the CPU" in str(report)
    assert {type(t) for t in modes.tensors(model)} <= {torch.Tensor, nn.Parameter}
    got = model(Card(x), more={"z": Card(z)})
    assert [type(got["y"]), type(got["list"][0]), type(got["more"])] == [Card] * 3
    assert got["list"][1] == 3
    close(got["y"].data_on_card, plain(x)["y"])
    close(got["more"].data_on_card, z * 2)
    close(model(x)["y"], plain(x)["y"])  # from the CPU to the CPU
    bc.unpatch_model(model)
    assert {type(t) for t in modes.tensors(model)} == {Card}
    assert "_compat_root" not in vars(model)
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert not model._forward_hooks_always_called


def test_an_error_in_forward_does_not_confuse_the_next_call(on_card):
    model = on_card(Returns())
    bc.patch_model(model, "cpu")
    x = torch.randn(2, 4)
    with pytest.raises(ValueError, match="asked to"):
        model(Card(x), fail=True)
    assert type(model(x)["y"]) is torch.Tensor
    assert moving._devices.stack == []


def test_a_moved_model_in_many_threads(on_card):
    model = on_card(Returns())
    bc.patch_model(model, "cpu")
    results = [None] * 8

    def run(i):
        x = torch.ones(2, 4)
        results[i] = [type(model(Card(x) if (i + j) % 2 else x)["y"]) for j in range(20)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert results == [[Card if (i + j) % 2 else torch.Tensor for j in range(20)] for i in range(8)]


def test_a_copy_and_a_pickle_of_a_moved_model_go_back_as_well(on_card):
    model = on_card(Returns())
    bc.patch_model(model, "cpu")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other(Card(torch.ones(2, 4)))["y"]) is Card
        bc.unpatch_model(other)
        assert {type(t) for t in modes.tensors(other)} == {Card}
        assert not other._forward_hooks
    assert type(model.lin.weight) is not Card


@pytest.mark.parametrize("device", ["cpu:0", "meta"])
def test_moving_keeps_ties_and_where_it_can_the_parameters(device):
    """To "cpu:0" a Parameter moves as to a card (its object stays), to "meta" as where torch makes a new one."""
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    model["a"].register_buffer("x", torch.ones(2))
    model["b"].register_buffer("x", model["a"].x)
    model["a"].weight.grad = torch.ones(3, 3)
    weight, data, grad = model["a"].weight, model["a"].weight.detach().clone(), model["a"].weight.grad
    state = moving.RootState("cpu", dict.fromkeys(model.state_dict(), device))
    moving.move_back(model, state)
    assert model["a"].weight is model["b"].weight
    assert model["a"].x is model["b"].x
    assert (model["a"].weight is weight) == (device == "cpu:0")
    assert model["a"].weight.requires_grad
    if device == "meta":
        assert model["a"].weight.is_meta
        assert model["a"].x.is_meta
    else:
        assert torch.equal(weight, data)
        assert weight.grad is grad


def test_native_fails_and_cpu_is_taken(on_card, monkeypatch, caplog):
    monkeypatch.setattr(modes, "examine", lambda device: {})
    model = on_card(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    real = patch._swap
    seen = []

    def fails_once(module, new_class, undo):
        real(module, new_class, undo)
        seen.append(module)
        if len(seen) == 2:
            raise RuntimeError("broken on purpose")

    monkeypatch.setattr(patch, "_swap", fails_once)
    report = bc.patch_model(model)
    assert report.mode == "cpu"
    assert "native raised: broken on purpose" in report.why
    assert "mode native raised (broken on purpose); the model is restored, trying cpu" in caplog.text
    assert type(model(Card(torch.ones(1, 4)))) is Card


@pytest.mark.parametrize("at", [1, 2, 3, 5])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_never_half_changed(at, error, monkeypatch):
    model = Mixed()
    nn.utils.parametrizations.weight_norm(model.conv)
    before = snapshot(model)
    real = patch._swap
    seen = []

    def fails(module, new_class, undo):
        real(module, new_class, undo)
        seen.append(module)
        if len(seen) == at:
            raise error("broken on purpose")

    monkeypatch.setattr(patch, "_swap", fails)
    with pytest.raises(error, match="broken on purpose"):
        bc.patch_model(model)
    assert snapshot(model) == before


def test_a_failing_second_call_keeps_what_the_first_did(monkeypatch):
    model = Mixed()
    bc.patch_model(model, include="lin")
    before = snapshot(model)

    def fails(root):
        raise RuntimeError("broken on purpose")

    with pytest.raises(RuntimeError, match="broken on purpose"):
        bc.patch_model(model, filter_fn=lambda name, m: fails(m))
    assert snapshot(model) == before


def test_moved_and_then_broken_is_moved_back(on_card, monkeypatch):
    model = on_card(Returns())
    monkeypatch.setattr(moving, "add_hooks", lambda model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bc.patch_model(model, "cpu")
    assert {type(t) for t in modes.tensors(model)} == {Card}
    assert "_compat_root" not in vars(model)
    assert type(model.lin) is nn.Linear


def test_a_moved_model_that_somebody_moves_again_is_left_to_him():
    model = nn.Linear(4, 4)
    moving.add_hooks(model)
    model.to("meta")
    assert model(torch.empty(2, 4, device="meta")).is_meta


def test_patched_puts_back_also_after_an_error():
    model = Mixed()
    before = snapshot(model)
    with bc.patched(model, exclude="out") as report:
        assert report.patched == ["lin", "conv", "up", "causal"]
        assert snapshot(model) != before
    assert snapshot(model) == before
    with pytest.raises(ZeroDivisionError), bc.patched(model):
        1 / 0  # noqa: B018
    assert snapshot(model) == before


def test_patched_inside_patched_leaves_the_outer_one():
    model = Mixed()
    with bc.patched(model, include="lin"):
        outer = snapshot(model)
        with bc.patched(model):
            assert snapshot(model) != outer
        assert snapshot(model) == outer


def test_patched_inside_patched_takes_its_channels_last_and_its_move_back(on_card, monkeypatch):
    model = Vocoder()
    with bc.patched(model, include="conv_p*"):
        outer = snapshot(model)
        with bc.patched(model) as report:
            assert report.channels_last == [""]
        assert snapshot(model) == outer
    monkeypatch.setattr(modes, "examine", lambda device: {})
    model = on_card(Returns())
    with bc.patched(model, mode="native"):
        with bc.patched(model, mode="cpu"):
            assert type(model.lin.weight) is not Card
        assert type(model.lin.weight) is Card
        assert not model._forward_hooks


def test_native_after_a_move_wants_unpatch_model_first(on_card):
    model = on_card(Returns())
    bc.patch_model(model, "cpu")
    with pytest.raises(bc.NotAvailable, match="an earlier call moved the model to the CPU; call unpatch_model first"):
        bc.patch_model(model, "native")
    report = bc.patch_model(model)
    assert (report.mode, report.moved_bytes) == ("cpu", 0)


def test_dry_run_of_a_move_says_the_same(on_card):
    model = on_card(Returns())
    before = snapshot(model)
    dry = bc.patch_model(model, "cpu", dry_run=True)
    assert snapshot(model) == before
    assert {**dry.to_dict(), "dry_run": False} == bc.patch_model(model, "cpu").to_dict()


def test_the_card_of_these_tests_behaves_like_one():
    card = Card(torch.ones(2))
    assert card.device == torch.device("cuda:0")
    assert not card.is_cpu
    with pytest.raises(RuntimeError, match="no kernel image"):
        card + 1
    assert pytree.tree_leaves({"a": [card]})[0] is card
