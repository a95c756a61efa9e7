"""Mode hybrid: layers compute on the CPU with packed weights, the data stays on the card."""

import copy
import logging
import pickle
import types

import blackwell_compat as bc
import pytest
import torch
from blackwell_compat.patching import modes, patch
from hybrid_models import IDS, Breaks, close, small
from on_card import CARD, assert_no_launch, on_the_card, values
from torch import nn

pytestmark = pytest.mark.usefixtures("fallback")
kept = pytest.mark.parametrize("keep", [True, False], ids=["kept", "released"])


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
