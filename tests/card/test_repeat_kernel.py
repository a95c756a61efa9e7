"""repeat_interleave, isin, the gradient of unfold, and indices that lie on the CPU, in mode kernel."""

import blackwell_compat as bc
import pytest
import torch
from opinfo_kernels import check, entries

pytestmark = pytest.mark.usefixtures("chosen")

OPS = {
    "repeat_interleave": (torch.float32, torch.int64),
    "isin": (torch.float32, torch.int64),
    "unfold": (torch.float32,),
}


@pytest.mark.parametrize(("name", "dtype"), entries(OPS))
def test_pytorchs_suite(name, dtype):
    check(name, dtype)


@pytest.mark.parametrize("repeats", [[3, 1, 2], [0, 0, 2, 0, 1, 0], [0], [5]], ids=str)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_repeats(repeats, dtype):
    r = torch.tensor(repeats, dtype=dtype)
    for size in (None, sum(repeats)):
        got = torch.repeat_interleave(r.to("cuda"), output_size=size).cpu()
        want = torch.repeat_interleave(r, output_size=size)
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


def test_indices_on_the_cpu():
    """As PyTorch allows where the tensor itself is on a card."""
    here, there = torch.zeros(4, 6), torch.zeros(4, 6).to("cuda")
    bc.reset_fallbacks()
    for x in (here, there):
        x[torch.tensor([0, 2, 3]).to(x.device), torch.arange(3)] = 1
    picked = there[torch.tensor([0, 3])]
    assert {line.op for line in bc.fallbacks().lines} <= {"aten::copy_"}
    assert torch.equal(there.cpu(), here)
    assert torch.equal(picked.cpu(), here[torch.tensor([0, 3])])
