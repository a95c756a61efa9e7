"""What threads, of Python and of OpenMP, may and may not change."""

import threading

import blackwell_compat as bc
import pytest
import reference
import torch
from blackwell_compat import _C
from torch.nn import functional as F

# op, its peer, sizes of input and weight, options
CASES = {
    "linear": (bc.compat_linear, F.linear, (37, 300), (130, 300), {}),
    "linear, one row": (bc.compat_linear, F.linear, (1, 300), (1000, 300), {}),
    "linear, many rows": (bc.compat_linear, F.linear, (700, 40), (33, 40), {}),
    "conv1d by rows": (bc.compat_conv1d, F.conv1d, (1, 20, 1201), (24, 20, 5), {"padding": 2}),
    "conv1d with stride": (bc.compat_conv1d, F.conv1d, (3, 40, 800), (48, 40, 6), {"stride": 3}),
    "conv1d with few outputs": (bc.compat_conv1d, F.conv1d, (1, 64, 1501), (2, 64, 7), {"padding": 3}),
    "conv1d depthwise": (bc.compat_conv1d, F.conv1d, (1, 24, 1300), (24, 1, 5), {"groups": 24}),
    "conv1d in groups": (bc.compat_conv1d, F.conv1d, (1, 24, 1300), (48, 6, 5), {"groups": 4}),
    "conv1d by minimal filtering": (bc.compat_conv1d, F.conv1d, (1, 64, 1501), (64, 64, 7), {"dilation": 3}),
    "conv_transpose1d by rows": (
        bc.compat_conv_transpose1d,
        F.conv_transpose1d,
        (1, 20, 401),
        (20, 24, 7),
        {"stride": 3},
    ),
    "conv_transpose1d": (bc.compat_conv_transpose1d, F.conv_transpose1d, (1, 64, 401), (64, 32, 11), {"stride": 3}),
}
# Minimal filtering computes pairs of positions: which are a pair depends on where a thread's span begins, and a pair's
# two outputs are summed differently. conv_transpose1d with 3 taps a phase and 64 channels uses it too.
BY_PAIRS = {"conv1d by minimal filtering", "conv_transpose1d"}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

cases = pytest.mark.parametrize("case", CASES)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(autouse=True)
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def arguments(case, dtype):
    _, _, x, w, kwargs = CASES[case]
    return (reference.values(*x, dtype=dtype), reference.values(*w, dtype=dtype, seed=1)), kwargs


@cases
@dtypes
def test_eight_python_threads_give_the_bits_of_one(case, dtype):
    op = CASES[case][0]
    args, kwargs = arguments(case, dtype)
    lengths = range(8)  # each thread its own input, and a length that others have not
    inputs = [args[0][..., i:, :] if "linear" in case and args[0].size(0) > 8 else args[0] * (i + 1) for i in lengths]
    inputs = [x[..., i:].contiguous() if x.dim() == 3 else x for i, x in enumerate(inputs)]
    weight = args[1].clone()
    want = [op(x, weight, **kwargs) for x in inputs]
    failures, barrier = [], threading.Barrier(8)

    def work(i):
        try:
            barrier.wait()
            for _ in range(6):
                if not torch.equal(op(inputs[i], weight, **kwargs), want[i]):
                    failures.append(i)
        except Exception as error:
            failures.append(error)

    weight = args[1].clone()  # not packed yet: the threads meet in the cache
    threads = [threading.Thread(target=work, args=(i,)) for i in lengths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_python_threads_that_change_the_weight_meanwhile():
    """Every result is that of the old weight or of the new one where each thread has its own."""
    x = reference.values(5, 48)

    def work(i, failures):
        weight = reference.values(40, 48, seed=i)
        for _ in range(30):
            weight.mul_(1.01)
            if not torch.allclose(bc.compat_linear(x, weight), F.linear(x, weight), atol=1e-4):
                failures.append(i)

    failures = []
    threads = [threading.Thread(target=work, args=(i, failures)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@cases
@dtypes
def test_run_to_run(case, dtype):
    op = CASES[case][0]
    args, kwargs = arguments(case, dtype)
    first = op(*args, **kwargs)
    for _ in range(3):
        assert torch.equal(op(*args, **kwargs), first)
    _C.clear_caches()
    assert torch.equal(op(*(a.clone() for a in args), **kwargs), first)


@cases
@dtypes
def test_number_of_threads(case, dtype):
    op, peer, *_ = CASES[case]
    args, kwargs = arguments(case, dtype)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(op(*args, **kwargs))
        want = reference.in_float64(peer, *args, **kwargs)
        reference.assert_as_accurate(results[-1], peer(*args, **kwargs), want)
    # Products in float32 are added in an order that no partition changes; oneDNN, which computes halves, may choose
    if _C.cpu_dtypes()[{torch.bfloat16: "BFloat16", torch.float16: "Half"}.get(dtype, "Float")] != "Float":
        return
    if case not in BY_PAIRS:
        assert all(torch.equal(result, results[0]) for result in results)


@dtypes
def test_a_pack_serves_every_number_of_threads(dtype):
    x = reference.values(9, 300, dtype=dtype)
    weights = {}
    for count in (1, 2):
        torch.set_num_threads(count)
        weights[count] = reference.values(130, 300, dtype=dtype, seed=count)
        bc.compat_linear(x, weights[count])
    for count in (2, 1, 3):
        torch.set_num_threads(count)
        for weight in weights.values():
            want = reference.in_float64(F.linear, x, weight)
            reference.assert_as_accurate(bc.compat_linear(x, weight), F.linear(x, weight), want)
