"""Kernels made ready ahead of the first call, and what is said while a call waits for one."""

import logging
import sys

import blackwell_compat as bc
import fakecard
import pytest
import torch
from blackwell_compat import _C, kernels
from by_our_kernels import only_ours, reset
from on_card import CARD

pytestmark = [pytest.mark.usefixtures("chosen"), pytest.mark.own_process]


class Rare(torch.nn.Module):
    """Kernels that are missing one after the other, and one of them only where values say so."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 6))

    def forward(self, x):
        return self.of(x, torch.rand_like(self.weight[:, :1]))

    def of(self, x, drawn):
        y = torch.asinh(x @ self.weight.T) + drawn.T
        order = torch.sort(torch.acosh(y.abs() + 1.5), dim=0).indices
        if order.sum().item() == 3 * 4:  # of the right values alone
            y = torch.atanh(y / (1 + y.abs()))
        y[order[0, 0]] *= 2
        return y.cumprod(0)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """The names of kernels for which a call had to wait, with nothing on the disk at first."""
    monkeypatch.setenv("BLACKWELL_COMPAT_CACHE_DIR", str(tmp_path))
    names = []
    _C.runtime_set_compile_notice(lambda name, index: names.append(name) if name else None)
    yield names
    _C.runtime_set_compile_notice(kernels._Notice())


def test_a_warm_model_waits_for_no_kernel(compiled):
    model, x = Rare(), torch.linspace(-2, 2, 18, dtype=torch.float64).reshape(3, 6)
    model, x = model.to(CARD), x.to(CARD)
    torch.manual_seed(3)
    before = torch.cuda.get_rng_state()
    with torch.no_grad():
        assert bc.warmup(model, x) >= 4
        assert torch.equal(torch.cuda.get_rng_state(), before)
        assert not compiled
        reset()
        bc.reset_fallbacks()
        got = model(x)
        launched = only_ours()
        assert not compiled
        assert bc.warmup(model, x=x) == 0
    if fakecard.here():
        assert {f"compat_pointwise_{op}_f64" for op in ("asinh", "acosh", "atanh")} <= launched.keys()
    assert {line.op for line in bc.fallbacks().lines} <= {"aten::_local_scalar_dense"}
    torch.manual_seed(3)
    drawn = torch.rand(4, 1, dtype=torch.float64, device=CARD).cpu()
    with torch.no_grad():
        want = model.cpu().of(x.cpu(), drawn)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-9)


def test_a_model_that_raises_leaves_nothing_behind(compiled):
    class Raises(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, x):
            raise ValueError("not of this shape")

    model = Raises().to(CARD)
    with pytest.raises(ValueError, match="not of this shape"):
        bc.warmup(model, torch.ones(3).to(CARD))
    torch.erfc(torch.ones(3, dtype=torch.float64).to(CARD))
    assert compiled == ["compat_pointwise_erfc_f64"]  # a missing kernel is compiled again where it is launched


def test_what_cannot_be_made_ready():
    with pytest.raises(TypeError, match=r"warmup: inputs are for a model.*warmup\(model, \*inputs\)"):
        bc.warmup(CARD, torch.ones(3).to(CARD))
    with pytest.raises(ValueError, match="warmup: target must be a card or a model on one, got cpu"):
        bc.warmup(torch.nn.Linear(2, 2))


def test_the_terminal_shows_which_kernel_a_call_waits_for(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("BLACKWELL_COMPAT_CACHE_DIR", str(tmp_path))
    written = []
    monkeypatch.setattr(sys.stderr, "write", written.append)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _C.runtime_set_compile_notice(kernels._Notice())
    x = torch.linspace(-1, 1, 5, dtype=torch.float64).to(CARD)
    with caplog.at_level(logging.INFO, logger="blackwell_compat"):
        torch.sinh(x)
        torch.sinh(x)
        torch.cosh(x)
    shown = [text.strip("\r").removesuffix("\x1b[K") for text in written]
    card = torch.cuda.get_device_name()
    assert shown == [
        f"blackwell_compat: compiling kernel 1 for {card}: compat_pointwise_sinh_f64",
        "",
        f"blackwell_compat: compiling kernel 2 for {card}: compat_pointwise_cosh_f64",
        "",
    ]
    (line,) = [record.getMessage() for record in caplog.records]
    assert str(tmp_path) in line
    assert "warmup(model, inputs)" in line
