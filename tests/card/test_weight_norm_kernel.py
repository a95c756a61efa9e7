"""Weight norm in mode kernel."""

import blackwell_compat as bc
import pytest
import reference
import torch
from by_our_kernels import CARD, on_card

pytestmark = pytest.mark.usefixtures("chosen")
TAKEN = {"aten::_weight_norm_interface", "aten::_weight_norm_interface_backward"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("shape", "dim"), [((24, 20, 7), 0), ((6, 5, 4), 2), ((5,), 0), ((64, 1), 0)], ids=str)
def test_weight_norm(shape, dim, dtype):
    g_shape = [size if d == dim else 1 for d, size in enumerate(shape)]
    v = reference.values(*shape, dtype=dtype).requires_grad_()
    g = reference.values(*g_shape, dtype=dtype, seed=1).requires_grad_()
    seed = reference.values(*shape, dtype=dtype, seed=2)
    there = on_card(v, g)
    bc.reset_fallbacks()
    got = torch._weight_norm(*there, dim)
    grads = torch.autograd.grad(got, there, seed.to(CARD))
    assert not {line.op for line in bc.fallbacks().lines} & TAKEN
    wide = [t.detach().double().requires_grad_() for t in (v, g)]
    want = wide[0] * (
        wide[1] / torch.linalg.vector_norm(wide[0], 2, [d for d in range(len(shape)) if d != dim] or [], True)
    )
    if len(shape) == 1:
        want = wide[0] * (wide[1] / wide[0].abs())
    limit = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 3e-2}[dtype]
    assert got.dtype == dtype
    torch.testing.assert_close(got.detach().cpu().double(), want.detach(), rtol=limit, atol=limit)
    for grad, exact in zip(grads, torch.autograd.grad(want, wide, seed.double()), strict=True):
        torch.testing.assert_close(
            grad.cpu().double(), exact, rtol=limit, atol=limit * max(1, exact.abs().max().item())
        )
