"""Models whose weights exist in packed form only are saved, loaded and copied as others are."""

from __future__ import annotations

import copy
import io
import pickle

import blackwell_compat as bc
import blackwell_compat.patching.freed as freed
import pytest
import torch
from freed_models import WEIGHTS, freed_pair, same_state
from patching_models import CausalConv1d, Mixed, close, mixed_input
from torch import nn

pytestmark = pytest.mark.usefixtures("no_grad")


def test_state_dict_is_as_it_was():
    model, plain = freed_pair()
    same_state(model, plain)
    same_state(model.causal, plain.causal)
    plain.load_state_dict(model.state_dict(), assign=True)
    nn.Linear(12, 16).load_state_dict(model.lin.state_dict())
    assert not model.state_dict()["lin.weight"].is_inference()
    keys = list(model.state_dict(prefix="a.", keep_vars=True))
    assert keys == [f"a.{key}" for key in plain.state_dict()]


@pytest.mark.parametrize("assign", [False, True], ids=["copy", "assign"])
def test_load_state_dict(assign):
    model, _ = freed_pair()
    other = Mixed()
    model(mixed_input())
    assert str(model.load_state_dict(other.state_dict(), assign=assign)) == "<All keys matched successfully>"
    assert freed.is_freed(model.lin)
    same_state(model, other)
    close(model(mixed_input()), other(mixed_input()))


def errors_of(model, state, strict):
    try:
        return model.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("strict", [True, False])
def test_load_state_dict_reports_as_torch_does(strict):
    model, plain = freed_pair()
    state = Mixed().state_dict()
    del state["conv.weight"]
    state["up.extra"] = torch.ones(2)
    assert errors_of(model, state, strict) == errors_of(plain, state, strict)
    same_state(model, plain)
    state["lin.weight"] = torch.ones(2, 2)
    assert errors_of(model, state, strict) == errors_of(plain, state, strict)
    same_state(model, plain)
    assert all(freed.is_freed(model.get_submodule(name)) for name in WEIGHTS)


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "pickle protocol 0": lambda m: pickle.loads(pickle.dumps(m, protocol=0)),
    "torch.save": saved,
}


@pytest.mark.parametrize("how", COPIES)
def test_copies(how):
    model, plain = freed_pair()
    other = COPIES[how](model)
    assert [type(m) for m in other.modules()] == [type(m) for m in model.modules()]
    close(other(mixed_input()), plain(mixed_input()))
    same_state(other, plain)
    other.lin.weight = nn.Parameter(torch.zeros(16, 12))
    assert not other.lin.weight.any()
    assert freed.is_freed(other.lin)
    same_state(model, plain)
    bc.unpatch_model(other)
    assert type(other.causal) is CausalConv1d
    assert list(dict(other.named_parameters())) == list(dict(plain.named_parameters()))
    assert b"CompatCausal" not in pickle.dumps(model)


def test_state_dict_through_a_file():
    model, plain = freed_pair()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    plain.load_state_dict(torch.load(file), strict=True)
    same_state(model, plain)
