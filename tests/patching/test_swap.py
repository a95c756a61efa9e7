"""Which layers run ours afterwards, that they compute the same, and that everything that refers to them holds."""

from __future__ import annotations

import re

import blackwell_compat as bc
import pytest
import torch
import torch.nn.functional as F
from blackwell_compat.patching.layers import CompatConv1d, CompatConvTranspose1d, CompatLinear
from patching_models import (
    CausalConv1d,
    Counted,
    FunctionalLinear,
    LoRACompatibleLinear,
    Mixed,
    OwnConvForward,
    close,
    mixed_input,
    snapshot,
    twin,
)
from torch import nn

torch.manual_seed(0)

CONVS = {
    "plain": (lambda: nn.Conv1d(4, 6, 3), (2, 4, 17)),
    "strided": (lambda: nn.Conv1d(4, 6, 5, stride=3, padding=2, dilation=2, bias=False), (2, 4, 31)),
    "groups": (lambda: nn.Conv1d(4, 8, 3, groups=4, padding="same"), (2, 4, 17)),
    "valid": (lambda: nn.Conv1d(4, 8, 3, padding="valid"), (2, 4, 17)),
    "reflect": (lambda: nn.Conv1d(4, 6, 5, padding=2, padding_mode="reflect"), (2, 4, 17)),
    "circular": (lambda: nn.Conv1d(4, 6, 5, padding=3, padding_mode="circular"), (2, 4, 17)),
    "replicate same": (lambda: nn.Conv1d(4, 6, 4, padding="same", padding_mode="replicate"), (2, 4, 17)),
    "unbatched": (lambda: nn.Conv1d(4, 6, 3, padding=1), (4, 17)),
    "up": (lambda: nn.ConvTranspose1d(4, 6, 7, stride=3, padding=2, output_padding=1), (2, 4, 9)),
    "up depthwise": (lambda: nn.ConvTranspose1d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=4), (2, 4, 9)),
    "up unbatched": (lambda: nn.ConvTranspose1d(4, 6, 4, stride=2, dilation=2), (4, 9)),
    "linear": (lambda: nn.Linear(5, 7), (2, 3, 5)),
    "linear no bias": (lambda: nn.Linear(5, 7, bias=False), (5,)),
}


@pytest.mark.parametrize("kind", CONVS)
def test_one_layer_computes_the_same_through_our_op(kind, monkeypatch):
    make, shape = CONVS[kind]
    layer, x = make(), torch.randn(shape)
    want = layer(x)
    bc.patch_model(layer)
    counted = Counted(monkeypatch)
    close(layer(x), want)
    assert len(counted.ops) == 1


@pytest.mark.parametrize("size", [[21], [23], (2, 6, 22)], ids=str)
def test_output_size_of_conv_transpose1d(size):
    layer, x = nn.ConvTranspose1d(4, 6, 3, stride=3), torch.randn(2, 4, 7)
    want = layer(x, output_size=size)
    bc.patch_model(layer)
    assert layer(x, output_size=size).shape[-1] == size[-1]
    close(layer(x, output_size=size), want)


def test_an_output_size_that_cannot_be():
    layer = nn.ConvTranspose1d(4, 6, 3, stride=3)
    bc.patch_model(layer)
    with pytest.raises(ValueError, match="requested an output size"):
        layer(torch.randn(2, 4, 7), output_size=[20])


def test_the_objects_stay_and_all_that_refers_to_them_holds():
    model = Mixed().eval()
    before = {name: id(m) for name, m in model.named_modules()}
    params = {name: id(p) for name, p in model.named_parameters()}
    keys = list(model.state_dict())
    seen = []
    model.lin.register_forward_hook(lambda m, a, out: seen.append(out.shape))
    layers = [model.lin, model.out]
    want = model(mixed_input())
    bc.patch_model(model)
    close(model(mixed_input()), want)
    assert {name: id(m) for name, m in model.named_modules()} == before
    assert {name: id(p) for name, p in model.named_parameters()} == params
    assert list(model.state_dict()) == keys
    assert len(seen) == 2
    assert layers[0] is model.lin
    assert not model.lin.training
    assert [type(m) for m in (model.lin, model.conv, model.up)] == [CompatLinear, CompatConv1d, CompatConvTranspose1d]
    assert isinstance(model.lin, nn.Linear)
    assert isinstance(model.causal, CausalConv1d)


def test_unpatch_gives_back_what_was():
    model = Mixed()
    before = snapshot(model)
    assert bc.unpatch_model(model) is model  # nothing to do
    assert snapshot(model) == before
    bc.patch_model(model)
    assert snapshot(model) != before
    bc.unpatch_model(model)
    assert snapshot(model) == before


def test_patching_twice_is_patching_once():
    model = Mixed()
    first = bc.patch_model(model)
    once = snapshot(model)
    second = bc.patch_model(model)
    assert snapshot(model) == once
    assert second.patched == first.patched
    assert {line.reason for line in second.modules if line.patched} == {"already patched"}
    assert "already patched before, in mode cpu" in second.why


def test_tied_weights_stay_tied_and_a_shared_module_is_patched_once():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    model["again"] = model["a"]
    report = bc.patch_model(model)
    assert report.patched == ["a", "b"]
    assert "parameters shared with a" in report.modules[1].reason
    assert model["b"].weight is model["a"].weight
    assert model["again"] is model["a"]
    x = torch.randn(3, 4)
    close(model["again"](x), F.linear(x, model["a"].weight, model["a"].bias))
    with torch.no_grad():
        model["a"].weight.mul_(2)
    close(model["b"](x), F.linear(x, model["a"].weight, model["b"].bias))


def test_a_subclass_that_pads_keeps_its_padding(monkeypatch):
    layer, x = CausalConv1d(4, 6, 5), torch.randn(2, 4, 11)
    want = layer(x)
    bc.patch_model(layer)
    counted = Counted(monkeypatch)
    got = layer(x)
    assert got.shape == (2, 6, 11)
    close(got, want)
    assert counted.ops == ["compat_conv1d"]


@pytest.mark.parametrize("lora", [True, False])
def test_a_lora_linear_keeps_its_forward(lora, monkeypatch):
    layer = LoRACompatibleLinear(4, 6, lora_layer=nn.Linear(4, 6) if lora else None)
    x = torch.randn(2, 4)
    want = layer(x, scale=0.5)
    bc.patch_model(layer)
    counted = Counted(monkeypatch)
    close(layer(x, scale=0.5), want)
    assert counted.ops == ["compat_linear"] * (2 if lora else 1)


class CallsConvForward(nn.Conv1d):
    def forward(self, x):
        return self._conv_forward(x * 2, self.weight, self.bias)


class TwoLevels(CausalConv1d):
    def forward(self, x):
        return super(TwoLevels, self).forward(x) + 1  # noqa: UP008  (the old spelling is the point)


class WithSlots(nn.Linear):
    __slots__ = ("note",)


class Registered(nn.Linear):
    def __init_subclass__(cls, key, **kwargs):
        super().__init_subclass__(**kwargs)


class Frozen(nn.Linear):
    def __setattr__(self, name, value):
        if name == "__class__":
            raise AttributeError("frozen")
        super().__setattr__(name, value)


class TwoLevelsFunctional(FunctionalLinear):
    def forward(self, x):
        return super().forward(x) + 1


class ByName(nn.Linear):
    def forward(self, x):
        return nn.Linear.forward(self, x)


@pytest.mark.parametrize("make", [lambda: CallsConvForward(4, 6, 3), lambda: TwoLevels(4, 6, 3)])
def test_other_ways_to_the_layers_own_forward(make, monkeypatch):
    layer, x = make(), torch.randn(2, 4, 11)
    want = layer(x)
    bc.patch_model(layer)
    counted = Counted(monkeypatch)
    close(layer(x), want)
    assert counted.ops == ["compat_conv1d"]


LEFT_ALONE = {
    "functional": (lambda: FunctionalLinear(4, 4), "own forward calls functional linear"),
    "functional below": (lambda: TwoLevelsFunctional(4, 4), "own forward calls functional linear"),
    "by name": (lambda: ByName(4, 4), "own forward calls functional Linear"),
    "conv forward": (lambda: OwnConvForward(4, 4, 3), "has its own _conv_forward"),
    "init_subclass": (lambda: Registered(4, 4), "cannot be subclassed"),
    "frozen": (lambda: Frozen(4, 4), "cannot be subclassed: frozen"),
    "lazy": (lambda: nn.LazyLinear(4), "not initialised yet"),
    "lazy conv": (lambda: nn.LazyConv1d(4, 3), "not initialised yet"),
    "lazy up": (lambda: nn.LazyConvTranspose1d(4, 3), "not initialised yet"),
    "meta": (lambda: nn.Linear(4, 4, device="meta"), "meta device"),
    "complex": (lambda: nn.Linear(4, 4, dtype=torch.complex64), "complex"),
    "float8": (lambda: nn.Linear(4, 4).to(torch.float8_e4m3fn), "float8"),
    "spectral_norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
        "computed at each call by",
    ),
    "old spectral_norm": (lambda: nn.utils.spectral_norm(nn.Linear(4, 4)), "weight is not a parameter"),
    "layer norm": (lambda: nn.LayerNorm(4), "no replacement for this class"),
    "conv2d": (lambda: nn.Conv2d(4, 4, 3), "no replacement for this class"),
}


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_left_alone_with_the_reason(kind):
    make, reason = LEFT_ALONE[kind]
    model = nn.Sequential(make())
    before = snapshot(model)
    report = bc.patch_model(model)
    assert reason in report.left_alone["0"]
    assert report.patched == []
    bc.unpatch_model(model)
    assert snapshot(model) == before


def test_a_quantized_layer_is_left_alone_and_listed():
    layer = torch.ao.nn.quantized.dynamic.Linear(4, 4)
    report = bc.patch_model(nn.Sequential(layer))
    assert "quantized" in report.left_alone["0"]
    assert type(layer) is torch.ao.nn.quantized.dynamic.Linear


def test_a_forward_replaced_on_the_object_is_left_alone():
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: x
    report = bc.patch_model(layer)
    assert "replaced on the object" in report.left_alone[""]


def test_a_lazy_layer_is_patched_once_it_is_initialised():
    model = nn.Sequential(nn.LazyLinear(4))
    bc.patch_model(model)
    model(torch.randn(2, 3))
    assert bc.patch_model(model).patched == ["0"]


def test_slots_do_not_hinder():
    layer = WithSlots(4, 4)
    layer.note = "kept"
    assert bc.patch_model(layer).patched == [""]
    assert layer.note == "kept"


def test_multihead_attention_computes_the_same_and_the_report_says_how():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 5, 8)
    want = layer(x, x, x)[0]
    report = bc.patch_model(layer)
    close(layer(x, x, x)[0], want)
    assert report.patched == ["out_proj"]
    assert "without calling forward" in report.modules[-1].reason
    assert "F.multi_head_attention_forward" in report.left_alone[""]
    assert [(line.name, line.calls) for line in report.functional] == [("", ("F.multi_head_attention_forward",))]
    bc.unpatch_model(layer)
    assert type(layer.out_proj) is nn.modules.linear.NonDynamicallyQuantizableLinear


def test_the_fast_path_of_a_transformer_layer_is_listed():
    torch.manual_seed(0)
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), torch.randn(2, 5, 8)
    want = layer(x)
    report = bc.patch_model(layer)
    assert report.patched == ["self_attn.out_proj", "linear1", "linear2"]
    assert "torch._transformer_encoder_layer_fwd (in eval mode)" in report.functional[0].calls
    close(layer(x), want)  # with gradients: through the layers
    with torch.no_grad():
        close(layer(x), want)  # past them


def test_filter_include_exclude():
    def model():
        return nn.ModuleDict({"enc": nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 3)), "dec": nn.Linear(4, 4)})

    assert bc.patch_model(model(), include=["enc.*"]).patched == ["enc.0", "enc.1"]
    assert bc.patch_model(model(), include="dec").patched == ["dec"]
    assert bc.patch_model(model(), include=[re.compile(r"\.0$")]).patched == ["enc.0"]
    report = bc.patch_model(model(), exclude=["dec", re.compile("1")])
    assert report.patched == ["enc.0"]
    assert report.left_alone == {"enc.1": "excluded by '1'", "dec": "excluded by 'dec'"}
    asked = []
    report = bc.patch_model(model(), filter_fn=lambda name, m: asked.append((name, type(m))) or name != "enc.0")
    assert report.patched == ["enc.1", "dec"]
    assert report.left_alone["enc.0"] == "filter_fn said no"
    assert asked == [("enc.0", nn.Linear), ("enc.1", nn.Conv1d), ("dec", nn.Linear)]
    assert bc.patch_model(model(), include=["nothing"]).left_alone["dec"] == "not in include"
    with pytest.raises(TypeError, match="include must hold fnmatch patterns or compiled regexes, got 3"):
        bc.patch_model(model(), include=[3])


def test_what_is_not_ours_stays_with_pytorch(monkeypatch):
    linear, conv = nn.Linear(4, 4), nn.Conv1d(4, 4, 3)
    bc.patch_model(nn.ModuleList([linear, conv]))
    counted = Counted(monkeypatch)
    meta = torch.empty(2, 4, device="meta")
    assert linear.to("meta")(meta).shape == (2, 4)
    assert conv.to("meta")(torch.empty(2, 4, 9, device="meta")).shape == (2, 4, 7)
    nested = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(3, 4)])
    fresh = nn.Linear(4, 4)
    want = list(fresh(nested).unbind())
    bc.patch_model(fresh)
    for got, w in zip(fresh(nested).unbind(), want, strict=True):
        close(got, w)
    sparse = torch.eye(4).to_sparse_csr()
    close(fresh(sparse).to_dense(), fresh.weight.t() + fresh.bias)
    assert counted.ops == []


@pytest.mark.parametrize("free_original", [False, True])
def test_a_wrong_shape_raises_the_message_of_the_op(free_original):
    model = nn.Linear(4, 4)
    bc.patch_model(model, free_original=free_original)
    for grad in (False, True):
        with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match=r"compat_linear:.*input is \[2, 5\]"):
            model(torch.randn(2, 5))


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv1d(4, 3, 1), nn.ConvTranspose1d(4, 3, 1)], ids=str)
def test_no_tensor_raises_as_pytorch_does(layer):
    for wrong in (None, [1.0], torch.ones(4, 4).numpy()):
        with pytest.raises(TypeError) as want:
            layer(wrong)
        with bc.patched(layer), pytest.raises(TypeError) as got:
            layer(wrong)
        assert str(got.value) == str(want.value)


def test_another_model_of_the_same_classes_is_untouched():
    model = Mixed()
    other = twin(model)
    bc.patch_model(model)
    assert [type(other.lin), type(other.causal)] == [nn.Linear, CausalConv1d]


def test_a_scripted_part_is_left_alone():
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 4))
    x = torch.randn(2, 4)
    want = model(x)
    report = bc.patch_model(model)
    assert report.patched == ["1"]
    close(model(x), want)
    bc.unpatch_model(model)
