"""patch_model(free_original=True): the weights exist in packed form only, and saving, loading, copying go on."""

from __future__ import annotations

import pickle
import threading

import blackwell_compat as bc
import blackwell_compat.patching.freed as freed
import pytest
import torch
import torch.nn.functional as F
from freed_models import WEIGHTS, freed_pair, same_state
from patching_models import CausalConv1d, LoRACompatibleLinear, Mixed, Vocoder, close, mixed_input, snapshot, twin
from torch import nn
from transformers.pytorch_utils import Conv1D

pytestmark = pytest.mark.usefixtures("no_grad")


def test_the_model_computes_the_same_and_has_no_weights():
    model, plain = freed_pair()
    want = plain(mixed_input())
    close(model(mixed_input()), want)
    bc.patch_model(plain)
    close(model(mixed_input()), plain(mixed_input()))
    left = [name for name, _ in model.named_parameters()]
    assert left == [
        name for name, _ in plain.named_parameters() if name.partition(".")[0] not in WEIGHTS or "bias" in name
    ]
    assert isinstance(model.lin, nn.Linear)
    assert isinstance(model.causal, CausalConv1d)
    close(model.to(torch.float32)(mixed_input()), want)


def test_unpatch_gives_the_same_parameters_back():
    model = Mixed()
    model.conv.weight.requires_grad_(False)
    model.out.weight.grad = torch.ones(3, 6)
    model.lin.register_forward_hook(lambda *_: None)
    plain, before = twin(model), snapshot(model)
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    bc.patch_model(model, free_original=True)
    assert parameters["lin.weight"].numel() == 0
    bc.unpatch_model(model)
    assert snapshot(model) == before
    same_state(model, plain)
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in plain.parameters()]
    with torch.enable_grad():
        model(mixed_input()).sum().backward()
    optimizer.step()
    assert not torch.equal(model.lin.weight, plain.lin.weight)
    assert torch.equal(model.conv.weight, plain.conv.weight)


def test_to_another_dtype_and_back():
    model, plain = freed_pair()
    parameter = model.lin._compat_parameter
    model.double()
    plain.double()
    assert not freed.is_freed(model.lin)
    assert model.lin.weight is parameter
    assert torch.equal(model.lin.weight, plain.lin.weight)
    torch.testing.assert_close(model(mixed_input().double()), plain(mixed_input().double()))
    model.float()
    plain.float()
    assert freed.is_freed(model.lin)
    same_state(model, plain)
    close(model(mixed_input()), plain(mixed_input()))
    bc.unpatch_model(model.half())
    same_state(model, plain.half())
    assert model.lin.weight is parameter


def test_to_meta_and_a_move_that_fails(monkeypatch):
    model, plain = freed_pair()

    def refuse(t):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        model._apply(refuse)
    same_state(model, plain)
    assert freed.is_freed(model.conv)
    model.share_memory()
    assert freed.is_freed(model.lin)
    assert model.lin._compat_packed.is_shared()
    same_state(model, plain)
    model.to("meta")
    assert model.lin.weight.is_meta
    assert model(mixed_input().to("meta")).is_meta
    model.to_empty(device="cpu")
    model.load_state_dict(plain.state_dict())
    close(model(mixed_input()), plain(mixed_input()))


def test_reading_and_writing_weight():
    model, plain = freed_pair()
    weight = model.lin.weight
    assert torch.equal(weight, plain.lin.weight)
    assert not weight.requires_grad
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        model.lin.weight.zero_()  # would be lost
    torch.testing.assert_close(F.linear(mixed_input(), weight), F.linear(mixed_input(), plain.lin.weight))
    with pytest.raises(TypeError, match="cannot assign"):
        model.lin.weight = torch.zeros(16, 12)
    with pytest.raises(RuntimeError, match="call unpatch_model before"):
        nn.utils.parametrizations.weight_norm(model.lin)
    same_state(model, plain)
    model.lin.reset_parameters()
    assert not torch.equal(model.lin.weight, plain.lin.weight)
    assert freed.is_freed(model.lin)
    model.lin.load_state_dict(plain.lin.state_dict())
    close(model(mixed_input()), plain(mixed_input()))
    nn.utils.parametrizations.weight_norm(bc.unpatch_model(model).lin)


def test_functional_call_and_changed_options():
    model, plain = freed_pair()
    other = Mixed()
    got = torch.func.functional_call(model, dict(other.named_parameters()), (mixed_input(),))
    close(got, other(mixed_input()))
    close(model(mixed_input()), plain(mixed_input()))
    x = torch.randn(1, 16, 30)
    for layer in (model.conv, plain.conv):
        layer.dilation = (3,)
    close(model.conv(x), plain.conv(x))
    for layer in (model.up, plain.up):
        layer.stride = (3,)
    close(model.up(x[:, :8]), plain.up(x[:, :8]))
    same_state(model, plain)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight
        self.same = self.twice = nn.Linear(20, 20)

    def forward(self, x):
        return self.twice(self.same(self.head(self.body(self.embed(x)))))


class Half(nn.Module):
    """Everything that keeps its weight."""

    def __init__(self):
        super().__init__()
        self.low = nn.Linear(4, 4, dtype=torch.bfloat16)
        self.norm = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3))
        self.old = nn.utils.weight_norm(nn.Conv1d(4, 4, 3))
        self.view = nn.Linear(4, 4)
        self.view.weight.data = torch.randn(8, 4)[:4]
        self.attention = nn.MultiheadAttention(4, 2)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8)
        self.grouped = nn.ConvTranspose1d(4, 4, 3, groups=2)
        self.out = nn.Linear(4, 4)


def test_tied_weights_are_kept():
    model = Tied()
    plain = twin(model)
    report = bc.patch_model(model, free_original=True)
    assert report.freed == ["body"]
    why = {line.name: line.reason for line in report.modules}
    assert why["head"].endswith("parameters shared with embed; the weight is kept: shared with embed.weight")
    assert why["same"].endswith("the weight is kept: shared with twice.weight")
    assert model.head.weight is model.embed.weight
    same_state(model, plain)
    x = torch.arange(20).view(2, 10)
    close(model(x), plain(x))


def test_the_report_says_what_is_kept_and_why():
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = Half()
    plan = bc.patch_model(model, free_original=True, dry_run=True, exclude="out")
    assert not any(isinstance(m, freed.FreedWeight) for m in model.modules())
    report = bc.patch_model(model, free_original=True)
    assert report.freed == ["out"]
    assert plan.freed == []
    why = {line.name: line.reason.partition("the weight is kept: ")[2] for line in report.modules}
    assert why["low"] == "the weight is torch.bfloat16 on cpu; only float32 on the CPU is packed for good"
    assert "weight_norm" in why["norm"]
    assert "weight_norm" in why["old"]
    assert why["view"] == "the weight is a view of something larger, which would stay"
    assert why["attention.out_proj"] == "nn.MultiheadAttention reads the weight at each call"
    assert why["encoder.linear1"] == "the module above reads the weight at each call"
    assert "groups or dilation" in why["grouped"]
    assert report.freed_bytes == 64
    assert "1 weights, 0.0 MB, exist in packed form only" in report.summary()
    assert "named_parameters() does not list them" in report.summary()
    assert [line["freed"] for line in report.to_dict()["modules"] if line["name"] == "out"] == [True]
    again = bc.patch_model(model, free_original=True)
    assert again.freed == ["out"]
    assert again.counts["bytes"] == report.counts["bytes"]
    assert [line.provider for line in again.modules] == [line.provider for line in report.modules]


def test_a_forward_that_reads_the_weight_keeps_it():
    class Reads(nn.Linear):
        def forward(self, x):
            return super().forward(x) / self.weight.norm()

    model = Reads(3, 3)
    report = bc.patch_model(model, free_original=True)
    assert "its own forward reads the weight" in report.modules[0].reason
    assert list(dict(model.named_parameters())) == ["weight", "bias"]


def test_a_patched_model_can_be_freed_later_and_options_hold():
    model, plain = Mixed(), None
    plain = twin(model)
    bc.patch_model(model)
    model(mixed_input())
    packs = bc.stats()["packs"]
    report = bc.patch_model(model, free_original=True, exclude="conv")
    assert report.freed == ["lin", "up", "causal", "out"]
    assert bc.stats()["packs"] <= packs - 4  # those of the weights that are gone
    close(model(mixed_input()), plain(mixed_input()))
    with bc.patched(model, free_original=True):
        assert freed.is_freed(model.conv)
    assert not freed.is_freed(model.conv)
    assert freed.is_freed(model.lin)
    with bc.patched(plain, free_original=True):
        assert freed.is_freed(plain.lin)
    assert type(plain.lin) is nn.Linear
    same_state(model, plain)


def test_transformers_conv1d_and_lora():
    model = nn.Sequential(Conv1D(24, 10), LoRACompatibleLinear(24, 8, lora_layer=nn.Linear(24, 8)))
    plain = twin(model)
    report = bc.patch_model(model, free_original=True)
    assert report.freed == ["0", "1", "1.lora_layer"]
    x = torch.randn(3, 10)
    close(model(x), plain(x))
    same_state(model, plain)
    assert not hasattr(model[0], "reset_parameters")
    close(pickle.loads(pickle.dumps(model))(x), plain(x))
    bc.unpatch_model(model)
    assert type(model[0]) is Conv1D
    same_state(model, plain)


@pytest.mark.parametrize("padding", ["same", "valid", 2])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("kernel", [3, 4])
def test_padding(padding, mode, kernel):
    model = nn.Conv1d(6, 8, kernel, padding=padding, padding_mode=mode, dilation=2)
    plain = twin(model)
    bc.patch_model(model, free_original=True)
    for x in (torch.randn(2, 6, 20), torch.randn(6, 20)):
        close(model(x), plain(x))


def test_a_vocoder_stays_channels_last():
    model = Vocoder().eval()
    plain, x = twin(model), torch.randn(1, 6, 9)
    report = bc.patch_model(model, free_original=True)
    assert report.channels_last
    assert model.conv_pre(x).stride(1) == 1
    close(model(x), plain(x), layers=12)


def test_backward_says_what_to_do():
    model, plain = freed_pair()
    with torch.enable_grad():
        result = model(mixed_input())  # evaluation without no_grad() is common
        close(result.detach(), plain(mixed_input()))
        with pytest.raises(RuntimeError, match="keeps no weight to differentiate with; call unpatch_model"):
            result.sum().backward()
        for layer, x in ((model.lin, torch.randn(2, 12)), (model.conv, torch.randn(1, 16, 9))):
            with pytest.raises(RuntimeError, match="free_original"):
                layer(x.requires_grad_()).sum().backward()
    with torch.inference_mode():
        close(model(mixed_input()).clone(), plain(mixed_input()))


def test_autocast_gives_what_the_patched_model_gives():
    model, plain = freed_pair()
    bc.patch_model(plain)
    with torch.autocast("cpu", torch.bfloat16):
        got, want = model(mixed_input()), plain(mixed_input())
    assert got.dtype == want.dtype == torch.bfloat16
    torch.testing.assert_close(got, want, rtol=0.05, atol=0.05)


def test_compile():
    model, plain = freed_pair()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (10, 16):
        x = torch.randn(2, length, 12)
        close(compiled(x), plain(x))
    reader = torch.compile(lambda x: F.linear(x, model.lin.weight), fullgraph=True, backend="aot_eager")
    close(reader(mixed_input()), F.linear(mixed_input(), plain.lin.weight))


def test_threads_get_the_same_bits():
    model, _ = freed_pair()
    want, got = model(mixed_input()), [None] * 8

    def run(i):
        with torch.no_grad():
            got[i] = model(mixed_input())

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(torch.equal(g, want) for g in got)


@pytest.mark.parametrize("nth", [1, 3, 5])
def test_a_failure_midway_restores_everything(nth, monkeypatch):
    model = Mixed()
    plain, before, count, inner = twin(model), snapshot(model), [0], freed._pack

    def fail(*args):
        count[0] += 1
        if count[0] == nth:
            raise MemoryError("no room")
        return inner(*args)

    monkeypatch.setattr(freed, "_pack", fail)
    with pytest.raises(MemoryError, match="no room"):
        bc.patch_model(model, free_original=True)
    assert snapshot(model) == before
    same_state(model, plain)
    bc.patch_model(model)
    before = snapshot(model)
    count[0] = 0
    with pytest.raises(MemoryError, match="no room"):
        bc.patch_model(model, free_original=True)
    assert snapshot(model) == before
    same_state(model, plain)


def test_no_free_original_for_a_model_elsewhere(monkeypatch):
    model = Mixed()
    before = snapshot(model)
    monkeypatch.setattr("blackwell_compat.patching.patch.device_of", lambda m: torch.device("cuda:0"))
    with pytest.raises(bc.NotAvailable, match="packs weights on the CPU only, and the model is on cuda:0"):
        bc.patch_model(model, "cpu", free_original=True)
    assert snapshot(model) == before
