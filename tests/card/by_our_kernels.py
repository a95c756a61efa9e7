"""What the tests of this package's kernels on a card share."""

import fakecard
import torch

CARD = torch.device("cuda", 0)


def only_ours():
    """What was launched since the test began, which a real card does not tell."""
    if not fakecard.here():
        return {}
    launched = fakecard.counters()["launched"]
    assert launched
    assert all(name.startswith("compat_") for name in launched), launched
    return launched


def reset():
    """Launches count from here on."""
    if fakecard.here():
        fakecard.reset()


def on_card(*tensors):
    """Leaves on the card; a copy alone starts no kernel there, so strides are made by views of it."""
    moved = []
    for t in tensors:
        if t is None:
            moved.append(None)
            continue
        base = torch.empty(t.untyped_storage().nbytes() // t.element_size(), dtype=t.dtype)
        base.set_(t.detach().untyped_storage())
        there = base.to(CARD).as_strided(t.size(), t.stride(), t.storage_offset())
        moved.append(there.detach().requires_grad_(t.requires_grad))
    return moved


def captured(call):
    """A graph of what `call` does, and its result."""
    with torch.cuda.stream(torch.cuda.Stream()):
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin()
        try:
            result = call()
        finally:
            graph.capture_end()
    return graph, result
