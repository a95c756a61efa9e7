"""What the tests of transforms by this package's kernels share."""

import reference
import torch
from by_our_kernels import on_card

# n_fft, hop_length, win_length
WORKLOADS = [(16, 4, 16), (20, 5, 20), (400, 160, 400), (512, 160, 400), (1024, 256, 1024), (1920, 480, 1920)]


def complex_values(*size, dtype=torch.float32):
    return torch.complex(reference.values(*size, dtype=dtype), reference.values(*size, dtype=dtype, seed=1))


def there(x):
    return None if x is None else on_card(x)[0]


def compare(functions, leaves, windows, sizes, options):
    """Ours on the card, torch's on the CPU and torch's in float64: forward, and backward where the leaves want it.

    Returns:
        the first two results.
    """
    got, peer, want = (
        f(leaf, *sizes, window, **options) for f, leaf, window in zip(functions, leaves, windows, strict=True)
    )
    reference.assert_as_accurate(got.detach().cpu(), peer.detach(), want.detach())
    if leaves[0].requires_grad:
        seed = (complex_values if got.is_complex() else reference.values)(*got.shape, dtype=torch.float64)
        grads = [torch.autograd.grad(y, leaf, seed.to(y.dtype).to(y.device))[0]
                 for y, leaf in zip((got, peer, want), leaves, strict=True)]  # fmt: skip
        reference.assert_as_accurate(grads[0].cpu(), *grads[1:])
    return got, peer
