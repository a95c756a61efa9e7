"""Mode hybrid: layers compute on the CPU with packed weights, the data stays on the card."""

import copy
import inspect
import logging
import pickle
import types

import blackwell_compat as bc
import pytest
import torch
from blackwell_compat.patching import hybrid, modes, patch
from fakecard.api import read
from on_card import CARD, assert_no_launch, values
from torch import nn

pytestmark = pytest.mark.usefixtures("fallback")
kept = pytest.mark.parametrize("keep", [True, False], ids=["kept", "released"])


class Small(nn.Module):
    """Every kind of layer that is patched, weight_norm, a tied weight and something that is not patched."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 24)
        self.conv = nn.Conv1d(24, 32, 5, padding=2)
        reflecting = nn.Conv1d(32, 32, 3, padding="same", padding_mode="reflect")
        self.normed = nn.utils.parametrizations.weight_norm(reflecting)
        self.norm = nn.LayerNorm(32)
        self.up = nn.ConvTranspose1d(32, 24, 4, stride=2, padding=1)
        self.lin = nn.Linear(24, 24)
        self.head = nn.Linear(24, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids).transpose(1, 2)
        x = nn.functional.leaky_relu(self.normed(torch.relu(self.conv(x))), 0.1)
        x = self.up(self.norm(x.transpose(1, 2)).transpose(1, 2)).transpose(1, 2)
        return self.head(torch.tanh(self.lin(x)))


IDS = torch.arange(26).view(2, 13) % 20


def small():
    torch.manual_seed(0)
    return Small().eval()


def close(got, want, tolerance=1e-5):
    assert got.device.type == CARD
    difference = (got.detach().cpu().double() - want.detach().double()).abs().max()
    assert difference <= tolerance * want.abs().max(), difference


@kept
def test_equals_the_cpu_and_packs_once(keep):
    model, want = small().to(CARD), small()(IDS)
    report = bc.patch_model(model, "hybrid", keep_on_device=keep)
    assert report.mode == "hybrid"
    assert report.patched == ["conv", "normed", "up", "lin", "head"]
    assert all(line.provider.startswith("ours") for line in report.modules if line.patched)
    with torch.inference_mode():
        close(model(IDS.to(CARD)), want)
        made = bc.stats()["packs_made"]
        bc.reset_fallbacks()
        close(model(IDS.to(CARD)), want)
    assert bc.stats()["packs_made"] == made
    ops = {line.op: line.calls for line in bc.fallbacks().lines}
    assert ops["blackwell_compat::compat_linear"] == 2
    assert ops["blackwell_compat::compat_conv1d"] == 2
    assert ops["blackwell_compat::compat_conv_transpose1d"] == 1
    assert not {"aten::addmm", "aten::mm", "aten::convolution"} & ops.keys()
    assert bc.fallbacks().totals.to_host <= 1
    assert_no_launch()


def on_the_card(t):
    """What the card's memory holds, past PyTorch."""
    address = torch._C.TensorBase.data_ptr(t)
    return torch.frombuffer(bytearray(read(address, t.nbytes)), dtype=t.dtype).view(t.shape)


def test_within_a_call_hardly_anything_crosses_the_bus():
    model, want = small().to(CARD), small()(IDS)
    bc.patch_model(model, "hybrid")
    ids = IDS.to(CARD)
    with torch.inference_mode():
        model(ids)
        bc.reset_fallbacks()
        got = model(ids)
        totals = bc.fallbacks().totals
        assert (totals.to_host, totals.to_device) == (0, 1)
        torch.testing.assert_close(on_the_card(got), want)


def test_an_error_within_a_call_ends_lazy_upload():
    model = Breaks(ValueError("not mine")).to(CARD)
    bc.patch_model(model, "hybrid")
    for _ in range(2):
        with pytest.raises(ValueError, match="not mine"):
            model(values(3, 4).to(CARD))
    bc.reset_fallbacks()
    x = values(50).to(CARD) * 2
    assert bc.fallbacks().totals.to_device == 2
    torch.testing.assert_close(on_the_card(x), values(50) * 2)


@kept
def test_unpatch_gives_everything_back(keep):
    model = small().to(CARD)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    classes, parameters = [type(m) for m in model.modules()], dict(model.named_parameters())
    report = bc.patch_model(model, "hybrid", keep_on_device=keep)
    assert list(model.state_dict()) == list(before)
    assert (report.moved_bytes == 0) == keep
    assert {p.device.type for p in model.parameters()} == ({CARD} if keep else {CARD, "cpu"})
    model(IDS.to(CARD))
    bc.unpatch_model(model)
    assert [type(m) for m in model.modules()] == classes
    assert all(p is parameters[name] and p.device.type == CARD for name, p in model.named_parameters())
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name])
    assert "forward" not in vars(model)
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert not any(key.startswith("_compat") for m in model.modules() for key in vars(m))


def test_what_is_shared_or_read_elsewhere_stays_on_the_card():
    model = nn.ModuleDict({"small": small(), "attention": nn.MultiheadAttention(8, 2)}).to(CARD)
    report = bc.patch_model(model, "hybrid", keep_on_device=False)
    reasons = {line.name: line.reason for line in report.modules}
    assert "stay on the card: shared with small.embed.weight" in reasons["small.head"]
    assert "stay on the card: nn.MultiheadAttention reads" in reasons["attention.out_proj"]
    assert "its tensors left the card" in reasons["small.lin"]
    assert model["small"].head.weight is model["small"].embed.weight
    assert model["small"].lin.weight.device.type == "cpu"
    assert model["attention"].out_proj.weight.device.type == CARD
    size = sum(p.nbytes for p in model.parameters() if p.device.type == "cpu")
    assert report.moved_bytes == size > 0
    x = values(3, 2, 8)
    want = copy.deepcopy(model["attention"]).cpu()(x, x, x)[0]
    close(model["attention"](*[x.to(CARD)] * 3)[0], want)


@kept
def test_a_changed_weight_is_noticed(keep):
    model, other = small().to(CARD), small()
    bc.patch_model(model, "hybrid", keep_on_device=keep)
    with torch.inference_mode():
        model(IDS.to(CARD))
    for change in (
        lambda m: m.lin.weight[3, 5].add_(1),
        lambda m: m.conv.weight[7, 3, 1].mul_(-4),
        lambda m: m.normed.parametrizations.weight.original1[5, 4, 2].add_(1),
        lambda m: m.load_state_dict({k: v * 0.9 for k, v in m.state_dict().items()}),
    ):
        with torch.no_grad():
            change(model)
            change(other)
            close(model(IDS.to(CARD)), other(IDS))


@kept
def test_training_equals_the_cpu(keep):
    model, other = small().to(CARD).train(), small().train()
    bc.patch_model(model, "hybrid", keep_on_device=keep)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2) for m in (model, other)]
    for _ in range(5):
        losses = []
        for m, optimizer, device in zip((model, other), optimizers, (CARD, "cpu"), strict=True):
            optimizer.zero_grad()
            loss = m(IDS.to(device)).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss)
        close(losses[0], losses[1])
    for name, p in model.named_parameters():
        assert p.grad.device == p.device, name


@kept
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_gives_its_dtype(keep, dtype):
    model = small().to(CARD)
    want = small()(IDS)
    bc.patch_model(model, "hybrid", keep_on_device=keep)
    with torch.inference_mode(), torch.autocast("cuda", dtype):
        got = model(IDS.to(CARD))
    assert got.dtype == dtype
    close(got, want, 2e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_model_in_half_precision(dtype):
    model, want = small().to(CARD, dtype), small()(IDS)
    bc.patch_model(model, "hybrid")
    with torch.inference_mode():
        got = model(IDS.to(CARD))
    assert got.dtype == dtype
    close(got, want, 2e-2)
    assert_no_launch()


@kept
def test_copies_and_pickles(keep):
    model = small()
    model.normed = nn.Conv1d(32, 32, 3, padding=1)  # a module with parametrizations does not pickle
    want = model(IDS)
    bc.patch_model(model.to(CARD), "hybrid", keep_on_device=keep)
    for called in (False, True):
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            if not called:
                assert vars(other)["forward"].model is other
            close(other(IDS.to(CARD)), want)
            bc.unpatch_model(other)
            assert {p.device.type for p in other.parameters()} == {CARD}
            close(other(IDS.to(CARD)), want)
        close(model(IDS.to(CARD)), want)


@kept
def test_torch_compile(keep):
    model, want = small().to(CARD), small()(IDS)
    bc.patch_model(model, "hybrid", keep_on_device=keep)
    torch._dynamo.reset()
    with torch.no_grad():
        close(torch.compile(model, backend="eager")(IDS.to(CARD)), want)


def test_auto_a_second_time_keeps_the_mode():
    model = small().to(CARD)
    bc.patch_model(model, "hybrid", include="conv")
    report = bc.patch_model(model)
    assert report.mode == "hybrid"
    assert "conv" in report.patched
    assert "lin" in report.patched
    bc.reset_fallbacks()
    model(IDS.to(CARD))
    assert "blackwell_compat::compat_linear" in {line.op for line in bc.fallbacks().lines}


def test_auto_without_kernels_of_ours_takes_the_cpu_and_says_why(caplog):
    model, want = small().to(CARD), small()(IDS)
    report = bc.patch_model(model)
    assert report.mode == "cpu"
    assert "no kernel image" in report.why
    assert "ours: " in report.why
    assert report.why in caplog.text
    close(model(IDS.to(CARD)) * 2, want * 2)  # what the caller does with the result runs on the card as well


def offloaded(model):
    """As accelerate's cpu_offload_with_hook and diffusers' enable_model_cpu_offload do it."""
    forward = model.forward
    model._hf_hook = types.SimpleNamespace(execution_device=0)
    model.forward = lambda ids: forward.__func__(model.to(CARD), ids.to(CARD))
    return model


def test_a_model_that_a_hook_brings_to_the_card_counts_as_there():
    model = offloaded(small())
    with pytest.raises(bc.NotAvailable, match="hooks of accelerate or diffusers bring the model to cuda:0"):
        bc.patch_model(model, "cpu")
    report = bc.patch_model(model)
    assert report.mode == "hybrid"
    assert "hooks bring the model there" in report.why
    for _ in range(2):
        close(model(IDS), small()(IDS))
        model.cpu()
    bc.unpatch_model(model)
    close(model(IDS), small()(IDS))


def test_the_card_of_diffusers_hooks_is_found():
    model = small()
    hook = types.SimpleNamespace(group=types.SimpleNamespace(onload_device=torch.device(CARD)))
    model.conv._diffusers_hook = types.SimpleNamespace(hooks={"group_offloading": hook})
    assert modes.device_of(model) == torch.device(CARD, 0)
    model.conv._diffusers_hook.hooks.clear()
    assert modes.device_of(model) == torch.device("cpu")


class Breaks(nn.Module):
    """Raises on a card."""

    def __init__(self, error):
        super().__init__()
        self.lin, self.error, self.calls = nn.Linear(4, 4), error, 0

    def forward(self, x, more=None):
        self.calls += 1
        y = self.lin(x)
        if y.is_cuda:
            raise self.error
        return {"y": y, "more": [] if more is None else [more["z"] + y]}


@kept
def test_a_first_call_that_fails_moves_the_model_to_the_cpu(keep, caplog):
    model = Breaks(RuntimeError("CUDA error: out of memory")).to(CARD)
    bc.patch_model(model, "hybrid", keep_on_device=keep)
    x = values(3, 4)
    for _ in range(2):
        got = model(x.to(CARD), more={"z": x.to(CARD)})
        want = nn.functional.linear(x, model.lin.weight.cpu(), model.lin.bias.cpu())
        close(got["y"], want)
        close(got["more"][0], want + x)
    assert model.calls == 3
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert caplog.text.count("the first call in mode hybrid raised (CUDA error: out of memory)") == 1
    bc.unpatch_model(model)
    assert {p.device.type for p in model.parameters()} == {CARD}


def test_until_the_first_call_forward_looks_as_it_did():
    model = small().to(CARD)
    before = inspect.signature(model.forward)
    bc.patch_model(model, "hybrid")
    assert inspect.signature(model.forward) == before
    kept = model.forward  # as libraries do that put their own in its place
    vars(model)["forward"] = lambda ids: kept(ids)
    for _ in range(2):
        close(model(IDS.to(CARD)), small()(IDS))
    assert kept.over


def test_a_forward_kept_before_the_first_call_works_after_unpatching():
    model = small().to(CARD)
    bc.patch_model(model, "hybrid")
    kept = model.forward
    bc.unpatch_model(model)
    with pytest.raises(RuntimeError, match="indices"):
        kept(values(2, 3).to(CARD))
    close(kept(IDS.to(CARD)), small()(IDS))


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
def test_torch_export_before_the_first_call(strict):
    if strict and torch.__version__ < (2, 5):
        pytest.skip(
            "with the hooks of mode hybrid, torch 2.4 ends in: whole graph export entails exactly one guard export"
        )
    model = small().to(CARD)
    bc.patch_model(model, "hybrid")
    exported = torch.export.export(model, (IDS.to(CARD),), strict=strict)
    close(exported.module()(IDS.to(CARD)), small()(IDS))


def test_a_mistake_of_the_caller_changes_nothing(caplog):
    model = small().to(CARD)
    bc.patch_model(model, "hybrid")
    with pytest.raises(RuntimeError, match="size"):
        model.lin(values(3, 7).to(CARD))
    with pytest.raises(RuntimeError, match="indices"):
        model(values(2, 3).to(CARD))
    other = Breaks(ValueError("not mine")).to(CARD)
    bc.patch_model(other, "hybrid")
    with pytest.raises(ValueError, match="not mine"):
        other(values(3, 4).to(CARD))
    host_input = nn.Sequential(nn.Linear(4, 4)).to(CARD)
    bc.patch_model(host_input, "hybrid")
    with pytest.raises(RuntimeError, match="on the same device"):
        host_input(values(3, 4))
    assert "first call" not in caplog.text
    for m in (model, other, host_input):
        assert {p.device.type for p in m.parameters()} == {CARD}
        assert isinstance(vars(m)["forward"], hybrid.FirstCall)
    close(model(IDS.to(CARD)), small()(IDS))
    assert "forward" not in vars(model)


class Misshapen(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x):
        return self.lin(x).view(7, 7)


@pytest.mark.filterwarnings("error:module forward hook")
def test_an_error_of_compiled_code_ends_no_call_that_has_not_begun():
    model = Misshapen().to(CARD)
    bc.patch_model(model, "hybrid")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="invalid for input of size"):
            torch.compile(model, backend="eager")(values(3, 4).to(CARD))


@pytest.mark.filterwarnings("error:module forward hook")
def test_a_call_that_has_not_begun_ends_no_other():
    def refuse(module, args):
        raise ValueError("refused")

    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(4, 4)

        def forward(self, x):
            with pytest.raises(ValueError, match="refused"):
                asked(x)
            bc.reset_fallbacks()
            y = self.lin(x) * 2
            self.uploads = bc.fallbacks().totals.to_device
            return y

    asked, model = Misshapen().to(CARD), Asks().to(CARD)
    bc.patch_model(asked, "hybrid")
    asked.register_forward_pre_hook(refuse, prepend=True)
    bc.patch_model(model, "hybrid")
    model(values(3, 4).to(CARD))
    assert model.uploads == 0


def test_an_interrupted_call_ends_with_the_next():
    model = Breaks(KeyboardInterrupt()).to(CARD)
    bc.patch_model(model, "hybrid")
    for error in (KeyboardInterrupt(), ValueError("not mine")):
        model.error = error
        with pytest.raises(type(error)):
            model(values(3, 4).to(CARD))
    bc.reset_fallbacks()
    x = values(50).to(CARD) * 2
    assert bc.fallbacks().totals.to_device == 2
    torch.testing.assert_close(on_the_card(x), values(50) * 2)


def test_patching_that_fails_ends_on_the_cpu(monkeypatch, caplog):
    monkeypatch.setattr(patch.hybrid, "keep_data_on_card", lambda module: 1 / 0)
    model, want = small().to(CARD), small()(IDS)
    with caplog.at_level(logging.INFO):
        report = bc.patch_model(model, "hybrid", keep_on_device=False)
    assert report.mode == "cpu"
    assert "hybrid raised: division by zero" in report.why
    assert "the model is restored, trying cpu" in caplog.text
    assert not any("_compat_on_card" in vars(m) for m in model.modules())
    close(model(IDS.to(CARD)), want)


def test_within_a_block():
    model, want = small().to(CARD), small()(IDS)
    with bc.patched(model, mode="hybrid", keep_on_device=False):
        close(model(IDS.to(CARD)), want)
    assert {p.device.type for p in model.parameters()} == {CARD}
    bc.patch_model(model, "hybrid", include="conv")
    with bc.patched(model, mode="hybrid", keep_on_device=False):
        close(model(IDS.to(CARD)), want)
    assert {p.device.type for p in model.parameters()} == {CARD}
    assert [name for name, m in model.named_modules() if "_compat_on_card" in vars(m)] == ["conv"]


def test_a_tensor_of_the_cpu_still_does_not_meet_one_of_the_card():
    with pytest.raises(RuntimeError, match="same device"):
        bc.compat_linear(values(3, 4), values(2, 4).to(CARD))
