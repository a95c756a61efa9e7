"""weight_norm in both forms: never a stale weight, never packed twice, gone without a trace."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import blackwell_compat as bc
import pytest
import torch
from patching_models import CausalConv1d, Counted, Vocoder, close, snapshot
from torch import nn
from torch.nn.utils import parametrize


def hook(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


parametrization = nn.utils.parametrizations.weight_norm
FORMS = {"hook": hook, "parametrization": parametrization}
LAYERS = {
    "conv": (lambda: nn.Conv1d(4, 6, 3, padding=1), (2, 4, 11)),
    "up": (lambda: nn.ConvTranspose1d(4, 6, 4, stride=2), (2, 4, 11)),
    "linear": (lambda: nn.Linear(4, 6), (2, 4)),
    "causal": (lambda: CausalConv1d(4, 6, 3), (2, 4, 11)),
}
both_forms = pytest.mark.parametrize("form", FORMS)


def pair(form, kind="conv"):
    """A patched layer with other weights than it was made with, its unpatched copy, and an input."""
    torch.manual_seed(1)
    make, shape = LAYERS[kind]
    layer = FORMS[form](make())
    for p in layer.parameters():
        nn.init.normal_(p)
    plain = FORMS[form](make())
    plain.load_state_dict(layer.state_dict())
    bc.patch_model(layer)
    return layer, plain, torch.randn(shape)


def g_and_v(layer):
    if hasattr(layer, "weight_g"):
        return layer.weight_g, layer.weight_v
    return layer.parametrizations.weight.original0, layer.parametrizations.weight.original1


def same(layer, plain, x):
    with torch.no_grad():
        close(layer(x), plain(x))


@both_forms
@pytest.mark.parametrize("kind", LAYERS)
def test_computes_the_same_and_the_weight_is_kept(form, kind, monkeypatch):
    layer, plain, x = pair(form, kind)
    counted = Counted(monkeypatch)
    with torch.no_grad():
        want = plain(x)
        close(layer(x), want)
        close(layer(x), want)
    (_, first), (_, second) = counted.calls
    assert first is second  # a fresh tensor would be packed again
    assert list(layer.state_dict()) == list(plain.state_dict())


@both_forms
def test_packed_once(form):
    layer, _, x = pair(form)
    with torch.no_grad():
        layer(x)
        before = bc._C.stats()
        layer(x)
        layer(x)
    after = bc._C.stats()
    assert after["packs_made"] == before["packs_made"]
    assert after["packs_reused"] == before["packs_reused"] + 2


@both_forms
def test_packed_once_under_inference_mode(form, monkeypatch):
    layer, plain, x = pair(form)
    counted = Counted(monkeypatch)
    with torch.inference_mode():
        close(layer(x), plain(x))
        layer(x)
    (_, first), (_, second) = counted.calls
    assert first is second
    assert not first.is_inference()  # has a version: C++ can pack it


@both_forms
def test_a_stale_weight_is_never_read(form):
    torch.manual_seed(1)
    layer = FORMS[form](nn.Conv1d(4, 6, 3))
    source = FORMS[form](nn.Conv1d(4, 6, 3))
    x = torch.randn(2, 4, 11)
    bc.patch_model(layer)
    layer.load_state_dict(source.state_dict())  # the hook's `weight` is now another's
    same(layer, source, x)


CHANGES = {
    "in place": lambda layer: [p.mul_(1.5).add_(0.1) for p in g_and_v(layer)],
    "through data": lambda layer: [p.data.mul_(1.5).add_(0.1) for p in g_and_v(layer)],
    "g only, through data": lambda layer: g_and_v(layer)[0].data.mul_(3),
    "data replaced": lambda layer: [setattr(p, "data", torch.ones_like(p)) for p in g_and_v(layer)],
    "double": lambda layer: layer.double(),
    "bfloat16 and back": lambda layer: layer.bfloat16().float(),
    "load_state_dict": lambda layer: layer.load_state_dict(
        {k: torch.full_like(v, 0.3) for k, v in layer.state_dict().items()}
    ),
}


@both_forms
@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_refreshed_after(form, change):
    layer, plain, x = pair(form)
    layer(x)
    layer(x)
    for one in (layer, plain):
        CHANGES[change](one)
    x = x.to(next(layer.parameters()).dtype)
    same(layer, plain, x)


@both_forms
def test_refreshed_after_training_and_the_gradients_are_the_same(form):
    layer, plain, x = pair(form)
    same(layer, plain, x)
    for one in (layer, plain):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            one(x).square().mean().backward()
            optimizer.step()
    for a, b in zip(layer.parameters(), plain.parameters(), strict=True):
        close(a, b)
        close(a.grad, b.grad)
    same(layer, plain, x)


@both_forms
def test_a_kept_weight_that_somebody_changed_is_made_again(form, monkeypatch):
    layer, plain, x = pair(form)
    counted = Counted(monkeypatch)
    with torch.no_grad():
        layer(x)
        counted.calls[0][1].zero_()
    same(layer, plain, x)


def kept(layer):
    """What is kept with the layer, None where nothing is."""
    owner = layer.parametrizations.weight if hasattr(layer, "parametrizations") else None
    owner = owner if owner is not None else next(iter(layer._forward_pre_hooks.values()))
    return owner.__dict__["_compat_folded"]._entry


@both_forms
def test_copies_get_none_of_it(form):
    layer, plain, x = pair(form)
    with torch.no_grad():
        layer(x)
    assert kept(layer) is not None
    other = copy.deepcopy(layer)
    assert kept(other) is None
    if form == "hook":
        assert kept(pickle.loads(pickle.dumps(layer))) is None
    with torch.no_grad():
        for p in (*g_and_v(other), *g_and_v(plain)):
            p.mul_(2)
    same(other, plain, x)


@both_forms
def test_unpatch_leaves_no_trace(form):
    torch.manual_seed(1)
    layer = FORMS[form](nn.Conv1d(4, 6, 3))
    before = snapshot(layer)
    hooks = [sorted(vars(h)) for h in layer._forward_pre_hooks.values()]
    bc.patch_model(layer)
    with torch.no_grad():
        layer(torch.randn(2, 4, 11))
    bc.unpatch_model(layer)
    assert snapshot(layer) == before
    assert [sorted(vars(h)) for h in layer._forward_pre_hooks.values()] == hooks


@both_forms
@pytest.mark.parametrize("kind", ["conv", "causal"])
def test_weight_norm_removed_after_patching(form, kind, monkeypatch):
    layer, plain, x = pair(form, kind)
    with torch.no_grad():
        layer(x)
    for one in (layer, plain):
        if form == "hook":
            nn.utils.remove_weight_norm(one)
        else:
            parametrize.remove_parametrizations(one, "weight")
    counted = Counted(monkeypatch)
    same(layer, plain, x)
    assert counted.ops == ["compat_conv1d"]
    assert list(layer.state_dict()) == list(plain.state_dict())
    bc.unpatch_model(layer)
    assert type(layer) is type(plain)
    assert sorted(vars(layer)) == sorted(vars(plain))


@both_forms
def test_weight_norm_added_after_patching(form, monkeypatch):
    torch.manual_seed(1)
    layer = CausalConv1d(4, 6, 3)
    x = torch.randn(2, 4, 11)
    want = layer(x)
    bc.patch_model(layer)
    FORMS[form](layer)
    bc.patch_model(layer)  # the hook's product is kept from here on
    counted = Counted(monkeypatch)
    with torch.no_grad():
        close(layer(x), want)
        layer(x)
    assert counted.calls[0][1] is counted.calls[1][1]
    bc.unpatch_model(layer)
    close(layer(x), want)
    cls = type(layer) if form == "hook" else type(layer).__bases__[0]
    assert cls is CausalConv1d


def test_one_of_two_parametrizations_removed_after_patching():
    torch.manual_seed(1)
    layer = parametrization(nn.Conv1d(4, 6, 3))
    parametrize.register_parametrization(layer, "bias", nn.Softplus())
    x = torch.randn(2, 4, 11)
    with torch.no_grad():
        want = layer(x)
        bc.patch_model(layer)
        close(layer(x), want)
        parametrize.remove_parametrizations(layer, "bias")
        close(layer(x), want)
        bc.unpatch_model(layer)
        close(layer(x), want)
    assert isinstance(layer.bias, nn.Parameter)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Conv1d


@both_forms
def test_a_trace_computes_the_weight(form):
    layer, plain, x = pair(form)
    with torch.no_grad():
        layer(x)
        traced = torch.jit.trace(layer, x)
        for p in (*g_and_v(layer), *g_and_v(plain)):
            p.add_(1)
        close(traced(x), plain(x))


def test_pickle_of_the_hook_form_and_what_torch_says_to_the_other():
    layer, plain, x = pair("hook")
    with torch.no_grad():
        layer(x)
    loaded = pickle.loads(pickle.dumps(layer))
    assert type(loaded) is type(layer)
    same(loaded, plain, x)
    layer, _, _ = pair("parametrization")
    with pytest.raises(
        RuntimeError, match="Serialization of parametrized modules is only supported through state_dict"
    ):
        torch.save(layer, io.BytesIO())


def test_two_parametrized_modules_of_one_class_do_not_meet():
    torch.manual_seed(1)
    layer = parametrization(nn.Conv1d(4, 6, 3))
    other = copy.deepcopy(layer)
    assert type(other) is type(layer)  # torch shares the class between copies
    bc.patch_model(layer)
    x = torch.randn(2, 4, 11)
    close(layer(x), other(x))
    assert parametrize.is_parametrized(other)
    assert not isinstance(other, type(layer))
    bc.unpatch_model(layer)
    assert type(other) is type(layer)


def test_inference_tensors_are_not_kept():
    with torch.inference_mode():
        layer = parametrization(nn.Linear(4, 6))
        plain = copy.deepcopy(layer)
        bc.patch_model(layer)
        x = torch.randn(2, 4)
        close(layer(x), plain(x))
        for one in (layer, plain):
            for p in g_and_v(one):
                p.mul_(2)
        close(layer(x), plain(x))


@both_forms
def test_functional_call_sees_the_weights_it_is_given(form):
    layer, plain, x = pair(form)
    with torch.no_grad():
        layer(x)
        other = {name: torch.randn_like(p) for name, p in layer.named_parameters()}
        close(torch.func.functional_call(layer, other, (x,)), torch.func.functional_call(plain, other, (x,)))
    same(layer, plain, x)


@both_forms
def test_vmap_over_the_weights(form):
    layer, plain, x = pair(form, "linear")
    stacked = {name: torch.stack([p, p * 2]) for name, p in layer.named_parameters()}
    with torch.no_grad():
        layer(x)

    def run(one):
        with torch.no_grad():
            return torch.func.vmap(lambda p: torch.func.functional_call(one, p, (x,)))(stacked)

    close(run(layer), run(plain))
    same(layer, plain, x)


@both_forms
def test_a_vocoder_of_them_is_all_ours_and_the_same(form, monkeypatch):
    torch.manual_seed(1)
    model = Vocoder(FORMS[form]).eval()
    x = torch.randn(1, 6, 13)
    with torch.no_grad():
        want = model(x)
        report = bc.patch_model(model)
        counted = Counted(monkeypatch)
        close(model(x), want, layers=12)
    assert len(counted.ops) == len(report.patched) == 11
    assert report.left_alone == {}
