"""Small parts of a large tensor travel alone, whichever bytes of it they are; the rest stays as it is."""

import pytest
import torch
from on_card import CARD, assert_no_launch, assert_same_on_card, values

pytestmark = pytest.mark.usefixtures("fallback")


def large(d):
    return values(10000).to(d)


def read(d):
    x = large(d)
    return x[5000:5010] + 1, x[77:8000:1000].sum(), x.view(100, 100)[40:43, 50:60] @ x.view(100, 100)[60:70, 7:9]


def written(d):
    x = large(d)
    x[5000:5010].mul_(2)
    x[9990:].zero_()
    x.view(100, 100)[40:43, 50:60].neg_()
    return x


def two_parts_and_the_gap(d):
    x = large(d)
    torch._foreach_add_([x[5000:5010], x[5100:5110]], 1.0)
    torch._foreach_zero_([x[7000:7010], x[7100:7110]])  # reads neither
    return x


def result_into_a_third_part(d):
    x = large(d)
    torch.add(x[3000:3010], x[300:310], out=x[6000:6010])
    torch.mul(x[:40].view(5, 8), 3, out=x.view(100, 100)[70:75, 20:36:2])
    return x


def statistics_in_one_large_tensor(d):
    x = large(d)
    y = torch.nn.functional.batch_norm(values(8, 4).to(d), x[2000:2004], x[4000:4004].abs_(), training=True)
    return x, y


def indexed(d):
    x = large(d)
    x[7000:7010][torch.tensor([1, 3]).to(d)] = 5.0
    return x, x[7000:7010][torch.tensor([0, 1]).to(d)]


def resized_after_a_copy_on_the_host(d):
    x = values(4).to(d) * 2
    x.resize_(2000)
    x[4:] = 1.0
    return x


def numbers(d):
    x = values(4, 5).to(d) + 1
    return torch.tensor([x[3, 2].item(), x.t()[4, 1].item(), large(d)[6000].item()]).to(d)


CASES = [
    read,
    written,
    two_parts_and_the_gap,
    result_into_a_third_part,
    statistics_in_one_large_tensor,
    indexed,
    resized_after_a_copy_on_the_host,
    numbers,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_equals_the_cpu(case):
    assert_same_on_card(case)


def test_few_bytes_travel(fallback):
    x = large(CARD)
    fallback.reset_fallbacks()
    part = x[5000:5010] + 1
    x[6000:6010].mul_(2)
    totals = fallback.fallbacks().totals
    assert totals.to_host_bytes < 300
    assert totals.to_device_bytes < 300
    assert torch.equal(part.cpu(), values(10000)[5000:5010] + 1)
    assert_no_launch()


def test_a_kernel_of_the_cpu_runs_without_autocast():
    """This one multiplies matrices inside, by an op that autocast of the CPU would make bfloat16."""
    x = values(40, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = torch.ops.aten._cdist_forward(x.to(CARD), x.to(CARD), 2.0, None)
    assert torch.equal(got.cpu(), torch.cdist(x, x))


def test_outputs_that_share_memory_go_on_sharing_it():
    """An op of another library whose two results are views of one tensor."""
    library = torch.library.Library("parting", "DEF")
    library.define("halves(Tensor x) -> (Tensor, Tensor)")
    library.impl("halves", lambda x: (x + 1).chunk(2), "CPU")
    first, second = torch.ops.parting.halves(values(8).to(CARD))
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert torch.equal(torch.cat([first, second]).cpu(), values(8) + 1)
