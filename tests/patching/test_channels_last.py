"""Channels-last-1d: tensors, patched modules, and which vocoders take it by themselves."""

from __future__ import annotations

import blackwell_compat as bc
import pytest
import torch
import torch.nn.functional as F
from patching_models import CausalConv1d, Mixed, Resampler, Vocoder, close, snapshot
from test_weight_norm import FORMS
from torch import nn


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 3, 5), (2, 1, 5), (2, 3, 1), (1, 1, 1), (0, 3, 5), (2, 3, 0)])
def test_a_tensor_gets_exactly_these_strides(shape):
    x = torch.randn(shape)
    y = bc.to_channels_last_1d(x)
    _, c, length = shape
    assert y.shape == x.shape
    if x.numel():
        assert y.stride() == (c * length, 1, c)
    assert torch.equal(x, y)
    again = bc.to_channels_last_1d(y)
    assert again.data_ptr() == y.data_ptr()


def test_a_sliced_tensor_and_its_gradient():
    x = torch.randn(2, 6, 10, requires_grad=True)
    y = bc.to_channels_last_1d(x[:, ::2, 1:])
    assert y.stride() == (27, 1, 3)
    y.square().sum().backward()
    want = torch.zeros_like(x)
    want[:, ::2, 1:] = 2 * x.detach()[:, ::2, 1:]
    close(x.grad, want)


@pytest.mark.parametrize("shape", [(), (3,), (3, 5), (1, 2, 3, 4)])
def test_a_tensor_of_another_rank(shape):
    with pytest.raises(ValueError, match=rf"must be 3-D \(N, C, L\), got {len(shape)}-D"):
        bc.to_channels_last_1d(torch.ones(shape))


def test_neither_tensor_nor_module():
    with pytest.raises(TypeError, match="wants a tensor or a module, got list"):
        bc.to_channels_last_1d([torch.ones(1, 2, 3)])


def test_a_module_that_is_not_patched():
    with pytest.raises(ValueError, match="holds no patched Conv1d or ConvTranspose1d; call patch_model on it first"):
        bc.to_channels_last_1d(Vocoder())


def layouts(model):
    """Strides of what each convolution takes and gives, in the order of the calls."""
    seen = []

    def note(module, args, out):
        seen.append((args[0].stride(), out.stride()))

    for m in model.modules():
        if isinstance(m, (nn.Conv1d, nn.ConvTranspose1d)):
            m.register_forward_hook(note)
    return seen


def is_last(stride):
    return stride[1] == 1 and stride[2] > 1


def test_a_module_on_request():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(4, 6, 3, padding=1), nn.GELU(), CausalConv1d(6, 5, 3), nn.ConvTranspose1d(5, 4, 4, 2)
    )
    x = torch.randn(2, 4, 9)
    want = model(x)
    before = snapshot(model)
    assert bc.patch_model(model).channels_last == []  # CausalConv1d has code of its own
    assert model[0](x).is_contiguous()
    assert bc.to_channels_last_1d(model) is model
    bc.to_channels_last_1d(model)  # twice is once
    assert len(model._forward_hooks) == 1
    assert is_last(model[0](x).stride())
    assert is_last(model[2](x.repeat(1, 2, 1)[:, :6]).stride())
    assert model(x).is_contiguous()
    close(model(x), want)
    bc.unpatch_model(model)
    assert snapshot(model) == before
    assert model[0](x).is_contiguous()


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return {"y": y, "length": y.size(-1), "pair": (y * 2, None)}


def test_every_tensor_that_the_module_returns_is_contiguous():
    model = Two()
    bc.patch_model(model)
    bc.to_channels_last_1d(model)
    out = model(torch.randn(2, 4, 9))
    assert out["y"].is_contiguous()
    assert out["pair"][0].is_contiguous()
    assert (out["length"], out["pair"][1]) == (9, None)


def test_unbatched_input_is_taken_as_it_is():
    model = Vocoder()
    x = torch.randn(6, 9)
    want = model(x)
    bc.patch_model(model)
    close(model(x), want, layers=12)


@pytest.mark.parametrize("form", [None, *FORMS])
def test_a_vocoder_runs_so_by_itself_from_first_to_last(form):
    torch.manual_seed(0)
    model = nn.ModuleDict({"text": Mixed(), "dec": Vocoder(FORMS.get(form))}).eval()
    x = torch.randn(2, 6, 9)
    with torch.no_grad():
        want = model["dec"](x)
        report = bc.patch_model(model)
        assert report.channels_last == ["dec"]
        assert "dec: channels-last from first to last convolution" in str(report)
        seen = layouts(model["dec"])
        got = model["dec"](x)
    assert got.is_contiguous()
    close(got, want, layers=12)
    assert len(seen) == 11
    # between the first and the last convolution nothing is copied: each takes what the one before gave
    assert all(is_last(taken) for taken, _ in seen[1:])
    assert all(is_last(given) for _, given in seen[:-1])
    assert not model["text"]._forward_hooks
    assert not hasattr(type(model["text"].lin), "_compat_channels_last")


def test_training_a_vocoder_so():
    torch.manual_seed(0)
    model, plain = Vocoder(), Vocoder()
    plain.load_state_dict(model.state_dict())
    bc.patch_model(model)
    x = torch.randn(2, 6, 9)
    for one in (model, plain):
        one(x).square().mean().backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        close(a.grad, b.grad, layers=12)


class Snake(nn.Module):
    """As BigVGAN's and Kokoro's: an activation with a parameter, elementwise."""

    def __init__(self, channels):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x):
        return x + (1 / self.alpha) * torch.pow(torch.sin(self.alpha * x), 2)


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.pre = nn.Conv1d(4, 6, 3, padding=1)
        self.act = Snake(6)
        self.up = nn.ConvTranspose1d(6, 4, 4, 2)

    def forward(self, x):
        return self.up(self.act(self.pre(x)))


class Views(Base):
    def forward(self, x):
        x = self.pre(x)
        return self.up(x.view(x.size(0), -1).view(x.size(0), 6, -1))


class Method(Base):
    def helper(self, x):
        return x.view(-1)

    def forward(self, x):
        x = self.pre(x)
        self.helper(x)
        return self.up(x)


class Pads(Base):
    def forward(self, x):
        return self.up(F.pad(self.pre(x), (1, 0)))


class Sliced(Base):
    def forward(self, x):
        return self.up(self.pre(x)[:, :, 1:])


class Shadow(Base):
    """Its `torch` is not torch."""

    def forward(self, x):
        return self.up(fake.tanh(self.pre(x)))


class fake:
    @staticmethod
    def tanh(x):
        return x.view(-1, 6, x.size(-1))


class Property(Base):
    @property
    def stage(self):
        return lambda x: x.view(-1)

    def forward(self, x):
        return self.up(self.pre(x) + self.stage)


class Attention(Base):
    def __init__(self):
        super().__init__()
        self.att = nn.Linear(4, 4)

    def forward(self, x):
        return self.up(self.pre(self.att(x)))


class OwnCall(Base):
    def __call__(self, x):
        return super().__call__(x).view(-1)


class NoUpsampling(nn.Module):
    def __init__(self):
        super().__init__()
        self.pre = nn.Conv1d(4, 6, 3)

    def forward(self, x):
        return self.pre(x)


class WithFunctional(Base):
    def __init__(self):
        super().__init__()
        self.resampler = Resampler()

    def forward(self, x):
        return self.resampler(self.up(self.pre(x)))


class LayerOrNot(Base):
    """A name that stood for a layer and then for something else."""

    def __init__(self):
        super().__init__()
        self.more = nn.ModuleList([nn.Conv1d(6, 6, 3)])

    def forward(self, x, function=None):
        x = self.pre(x)
        for layer in self.more:
            layer = function
            x = layer(x)
        return self.up(x)


NOT = [Views, Method, Pads, Sliced, Shadow, Property, Attention, OwnCall, NoUpsampling, WithFunctional, LayerOrNot]


@pytest.mark.parametrize("cls", NOT)
def test_code_that_could_tell_strides_means_no(cls):
    assert bc.patch_model(cls()).channels_last == []


def test_an_activation_with_a_parameter_means_yes():
    torch.manual_seed(0)
    model, x = Base(), torch.randn(2, 4, 9)
    want = model(x)
    assert bc.patch_model(model).channels_last == [""]
    close(model(x), want)


def make_hooked():
    model = Base()
    model.pre.register_forward_hook(lambda m, a, out: out)
    return model


def make_without_source():
    scope = {"Base": Base}
    exec("class Made(Base):\n    def forward(self, x):\n        return self.up(self.pre(x))\n", scope)
    return scope["Made"]()


def make_replaced():
    model = Base()
    model.forward = lambda x: x
    return model


def make_causal():
    model = Base()
    model.pre = CausalConv1d(4, 6, 3)
    return model


@pytest.mark.parametrize("make", [make_hooked, make_without_source, make_replaced, make_causal])
def test_hooks_missing_source_and_layers_with_code_of_their_own_mean_no(make):
    assert bc.patch_model(make()).channels_last == []


def test_a_convolution_that_stays_with_pytorch_means_no():
    assert bc.patch_model(Base(), exclude="pre").channels_last == []


def test_a_layer_that_somebody_else_uses_means_no():
    model = nn.ModuleDict({"voc": Base()})
    model["other"] = nn.Sequential(model["voc"].pre)
    assert bc.patch_model(model).channels_last == []


def test_a_second_call_leaves_it_as_it_is():
    model = nn.ModuleDict({"voc": Base()})
    bc.patch_model(model)
    before = snapshot(model)
    assert bc.patch_model(model).channels_last == ["voc"]
    assert snapshot(model) == before
    bc.unpatch_model(model)
    assert not model["voc"]._forward_hooks
