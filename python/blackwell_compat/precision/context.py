"""`with autocast(policy):` PyTorch's autocast with one list of ops for CPU and CUDA."""

from __future__ import annotations

import contextlib

import torch

from blackwell_compat import _C
from blackwell_compat.precision.policy import Policy, as_policy, resolve


class autocast(contextlib.ContextDecorator):
    """A block, or a function as a decorator, that computes in the precision of a policy.

    Matrix products and convolutions, this package's and PyTorch's, compute in the dtype of the policy. Spectra
    (torch.stft, torch.istft, torch.fft), complex numbers, norms, softmax, losses, cumulative sums, exp, log and pow
    compute in float32, also where torch.autocast leaves them in 16 bits or raises. float64 stays float64. Blocks nest,
    with torch.autocast as well. Under "fp32" matrix products take 16-bit tensors, too, and compute in float32. Islands
    of modules need patch_model(model, policy=...), which knows the modules.

    Args:
        policy: "bf16", "fp16", "fp32" or a Policy.
        card: the card whose tensors it is for; None: the current one. CPU tensors it is always for.
    Raises:
        ValueError: no such policy.
    """

    def __init__(self, policy: Policy | str = "bf16", card: torch.device | str | None = None) -> None:
        self.policy = as_policy(policy)
        self.cpu = resolve(self.policy, "cpu").dtype
        asks = self.policy.dtype != "fp32" and torch.cuda.is_available()
        self.cuda = resolve(self.policy, card or "cuda").dtype if asks else self.cpu

    def __enter__(self) -> autocast:
        _C.precision_enter(self.cpu, self.cuda)
        return self

    def __exit__(self, *error: object) -> None:
        _C.precision_leave()


# As torch.compiler.disable marks them, without importing the compiler: a block inside of compiled code splits it
autocast.__enter__._torchdynamo_disable = True  # type: ignore[attr-defined]
autocast.__exit__._torchdynamo_disable = True  # type: ignore[attr-defined]
