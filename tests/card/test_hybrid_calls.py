"""Mode hybrid: the first call of a model, and calls that end in an error."""

import inspect

import blackwell_compat as bc
import pytest
import torch
from blackwell_compat.patching import hybrid
from hybrid_models import IDS, Breaks, close, small
from on_card import CARD, on_the_card, values
from torch import nn

pytestmark = pytest.mark.usefixtures("fallback")


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "released"])
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


def strict_export_takes_hooks():
    """torch 2.4 and 2.6 refuse a model with any forward hook."""
    hooked = nn.Linear(3, 3)
    hooked.register_forward_hook(lambda module, args, output: None)
    try:
        torch.export.export(hooked, (values(2, 3),), strict=True)
    except (AssertionError, torch._dynamo.exc.UserError):
        return False
    return True


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
def test_torch_export_before_the_first_call(strict):
    if strict and not strict_export_takes_hooks():
        pytest.skip("PyTorch's, without this package as well")
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
