"""What the tests of this package's kernels on a card share."""

import blackwell_compat as bc
import fakecard
import reference
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


def with_gradient(function, x, taken):
    """`function(x)` on the card, its gradient and the one that came in; none of the ops in `taken` went to the CPU."""
    there = on_card(x)[0].requires_grad_()
    reset()
    bc.reset_fallbacks()
    got = function(there)
    seed = reference.values(*got.shape, dtype=x.dtype, seed=1)
    (grad,) = torch.autograd.grad(got, there, seed.to(got.device))
    only_ours()
    assert not {line.op for line in bc.fallbacks().lines} & taken
    return got, grad, seed


def compare(ours, theirs, arguments, options):
    """Forward, and backward to all that wants a gradient, against `theirs` on the CPU in float64.

    `theirs` is linear in each of its arguments.
    """
    there = on_card(*arguments)
    got = ours(*there, **options)
    wide = [None if t is None else t.detach().double().requires_grad_(t.requires_grad) for t in arguments]
    large = [None if t is None else t.detach().abs().requires_grad_(t.requires_grad) for t in wide]
    want, magnitude = theirs(*wide, **options), theirs(*large, **options)
    reference.assert_rounded(got.detach().cpu(), want.detach(), magnitude.detach())
    leaves = [i for i, t in enumerate(arguments) if t is not None and t.requires_grad]
    if not leaves:
        return
    seed = reference.values(*got.shape, dtype=got.dtype, seed=1)
    for grad, exact, of_magnitude in zip(
        torch.autograd.grad(got, [there[i] for i in leaves], seed.to(CARD)),
        torch.autograd.grad(want, [wide[i] for i in leaves], seed.double()),
        torch.autograd.grad(magnitude, [large[i] for i in leaves], seed.double().abs()),
        strict=True,
    ):
        assert grad.dtype == got.dtype
        reference.assert_rounded(grad.cpu(), exact, of_magnitude)


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
