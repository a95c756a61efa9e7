"""Random numbers that are drawn for a card without kernels follow the card's generators."""

import math

import pytest
import torch
from on_card import CARD, assert_no_launch, same
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("fallback")


def test_random_numbers_follow_the_seed_of_the_card():
    torch.cuda.manual_seed(3)
    first, second = torch.randn(100, device=CARD), torch.randn(100, device=CARD)
    torch.cuda.manual_seed(3)
    assert torch.equal(torch.randn(100, device=CARD).cpu(), first.cpu())
    assert not torch.equal(first.cpu(), second.cpu())
    state = torch.cuda.get_rng_state()
    third = torch.rand(5, device=CARD)
    torch.cuda.set_rng_state(state)
    assert torch.equal(torch.rand(5, device=CARD).cpu(), third.cpu())
    cpu_state = torch.get_rng_state()
    F.dropout(torch.ones(100, device=CARD), 0.5)
    assert torch.equal(torch.get_rng_state(), cpu_state)
    assert_no_launch()


def test_generators_of_the_card():
    def draw():
        generator = torch.Generator(device=CARD)
        generator.manual_seed(3)
        normal = torch.randn(50, device=CARD, generator=generator)
        return normal, torch.multinomial(normal.abs(), 20, generator=generator), torch.randperm(9, device=CARD)

    torch.manual_seed(1)
    first = draw()
    torch.manual_seed(1)
    for a, b in zip(first, draw(), strict=True):
        assert torch.equal(a.cpu(), b.cpu())
    assert abs(first[0].mean().item()) < 0.6


def test_dropout_keeps_what_its_gradient_keeps():
    x = torch.ones(4000, device=CARD, requires_grad=True)
    y = F.dropout(x, 0.25, training=True)
    y.sum().backward()
    same(x.grad, y.detach().cpu())
    assert math.isclose((y != 0).float().mean().item(), 0.75, abs_tol=0.05)
    assert torch.equal(y.detach().cpu().unique(), torch.tensor([0, 1 / 0.75]))
