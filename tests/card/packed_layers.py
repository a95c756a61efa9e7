"""Convolutions on the card, each of which says how often its weight was packed."""

import blackwell_compat as bc
import fakecard
import reference
import torch
from by_our_kernels import on_card
from on_card import on_the_card

F = torch.nn.functional

OPS = {
    "conv1d": (F.conv1d, (24, 20, 3), (1, 20, 30)),
    "direct": (F.conv1d, (24, 4, 3), (1, 4, 30)),
    "conv_transpose1d": (lambda x, w: F.conv_transpose1d(x, w, stride=2), (20, 24, 4), (1, 20, 15)),
    "compat_conv1d": (lambda x, w: bc.compat_conv1d(x, w, padding=1), (24, 20, 3), (1, 20, 30)),
    "conv2d": (F.conv2d, (24, 20, 3, 3), (1, 20, 8, 7)),
    "conv3d": (F.conv3d, (24, 20, 1, 3, 3), (1, 20, 2, 8, 7)),
}


def packs():
    launched = fakecard.counters()["launched"]
    return sum(count for name, count in launched.items() if name.startswith("compat_conv1d_pack_"))


class Layer:
    """A convolution on the card; calling it says how many packs it launched, and checks the result."""

    def __init__(self, name="conv2d", weight=None):
        self.function, size, input_size = OPS[name]
        self.x = reference.values(*input_size)
        if weight is None:
            weight = torch.nn.Parameter(on_card(reference.values(*size, seed=1))[0])
        self.weight, self.there = weight, on_card(self.x)[0]

    def __call__(self):
        fakecard.reset()
        with torch.no_grad():
            got = self.function(self.there, self.weight)
            launched = packs()
            torch.cuda.synchronize()
            want = self.function(self.x, on_the_card(self.weight))
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4)
        return launched
