"""A small model of every kind of layer, one that raises on a card, and how close a result on the card has to be."""

import torch
from on_card import CARD
from torch import nn


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


IDS = torch.arange(26).view(2, 13) % 20


def small():
    torch.manual_seed(0)
    return Small().eval()


def close(got, want, tolerance=1e-5):
    assert got.device.type == CARD
    difference = (got.detach().cpu().double() - want.detach().double()).abs().max()
    assert difference <= tolerance * want.abs().max(), difference
