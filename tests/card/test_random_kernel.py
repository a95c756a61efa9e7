"""Random numbers in mode kernel: the ones that PyTorch's CUDA kernels draw, as tests/philox.py states their scheme."""

import blackwell_compat as bc
import fakecard
import numpy as np
import philox
import pytest
import torch

pytestmark = pytest.mark.usefixtures("chosen")
CARD = "cuda"
COUNTS_BY_WIDTH = torch.__version__ >= "2.6"


def grid(size):
    card = torch.cuda.get_device_properties(0)
    return philox.blocks(size, card.multi_processor_count, card.max_threads_per_multi_processor)


def fell_back():
    return {line.op for line in bc.fallbacks().lines} - {"aten::copy_"}


def offset():
    return int.from_bytes(bytes(torch.cuda.get_rng_state()[8:].tolist()), "little")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1234)
    bc.reset_fallbacks()


@pytest.mark.parametrize("size", [1, 1000, 300_000])
def test_the_generator_goes_on_as_pytorchs_does(size):
    first = philox.bits(size, grid(size), 1234, 0)
    after = philox.numbers(size, grid(size))
    assert np.array_equal(torch.empty(size, dtype=torch.int32, device=CARD).random_().cpu().numpy(), first % 2**31)
    assert offset() == after
    second = philox.uniform(philox.bits(size, grid(size), 1234, after))
    assert np.array_equal(torch.rand(size, device=CARD).cpu().numpy(), np.where(second == 1, 0, second))
    torch.rand(0, device=CARD)
    assert offset() == 2 * after
    assert not fell_back()


def test_the_generators_state_is_saved_and_restored():
    torch.rand(3, device=CARD)
    state = torch.cuda.get_rng_state()
    first = torch.randn(5, device=CARD)
    torch.cuda.set_rng_state(state)
    assert torch.equal(torch.randn(5, device=CARD).cpu(), first.cpu())
    own = torch.Generator(CARD).manual_seed(1234)
    drawn = torch.rand(7, device=CARD, generator=own)
    torch.cuda.manual_seed(1234)
    assert torch.equal(torch.rand(7, device=CARD).cpu(), drawn.cpu())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_distributions(dtype):
    size, wide = 3000, dtype == torch.float64
    drawn = philox.uniform(philox.bits(size, grid(size), 1234, 0, 2 if wide else 4)).astype(np.float64)
    normal = philox.normal(size, grid(size), 1234, 0, 2 if wide else 4)
    cases = {
        "uniform_": ((-1, 3), np.where(torch.from_numpy(drawn * 4 - 1).to(dtype) == 3, -1, drawn * 4 - 1)),
        "normal_": ((0.5, 2), normal * 2 + 0.5),
        "log_normal_": ((0.5, 0.25), np.exp(normal * 0.25 + 0.5)),
        "exponential_": ((2,), -np.log(drawn) / 2),
        "cauchy_": ((1, 0.5), 1 + 0.5 * np.tan(np.pi * (drawn - 0.5))),
        "geometric_": ((0.25,), np.ceil(np.log(drawn) / np.log1p(-0.25))),
        "bernoulli_": ((0.25,), drawn < 0.25),
    }
    for name, (arguments, want) in cases.items():
        torch.manual_seed(1234)
        got = getattr(torch.empty(size, dtype=dtype, device=CARD), name)(*arguments)
        limit = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}.get(dtype, 1e-3)
        np.testing.assert_allclose(got.cpu().double().numpy(), want, rtol=limit, atol=2e-2 if limit > 1e-3 else 1e-4)
        assert offset() == philox.numbers(size, grid(size), 2 if wide and COUNTS_BY_WIDTH else 4)
    assert not fell_back()


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int32, torch.int8, torch.uint8, torch.float32, torch.bool], ids=str
)
def test_whole_numbers(dtype):
    drawn = philox.bits(1000, grid(1000), 1234, 0)
    low, high = (0, 2) if dtype == torch.bool else (3, 100)
    got = torch.randint(low, high, (1000,), dtype=dtype, device=CARD)
    assert np.array_equal(got.cpu().numpy(), (drawn % (high - low) + low).astype(got.cpu().numpy().dtype))


def test_wide_ranges():
    drawn = philox.bits(1000, grid(1000), 1234, 0, 2)
    got = torch.randint(-5, 2**40, (1000,), device=CARD)
    assert np.array_equal(got.cpu().numpy(), (drawn % (2**40 + 5)).astype(np.int64) - 5)


def test_memory_with_gaps_and_permuted():
    whole = torch.zeros(6, 8, device=CARD)
    whole[:, ::2].normal_()
    assert not whole[:, 1::2].any().item()
    torch.manual_seed(1234)
    got = torch.empty(8, 3, device=CARD).t().uniform_().t().cpu().flatten()
    assert np.array_equal(got.numpy(), philox.uniform(philox.bits(24, 1, 1234, 0)))


def test_chances():
    chances = torch.linspace(0, 1, 2001)
    got = torch.bernoulli(chances.to(CARD))
    counter = np.stack([np.zeros(2001), np.zeros(2001), np.arange(2001) // 4, np.zeros(2001)], 1)
    drawn = philox.uniform(philox.philox(counter, (1234, 0))[np.arange(2001), np.arange(2001) % 4])
    assert np.array_equal(got.cpu().numpy(), drawn <= chances.numpy())
    assert offset() == 12


def dropout_keeps(size, itemsize, address, offset=0):
    width = philox.dropout_width(size, itemsize, address, torch.__version__)
    return philox.uniform(philox.dropout_bits(size, grid(size), 1234, offset, width)) < 0.75


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("size", [400_000, 4098, 4092, 4001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_dropout(dtype, size, shift):
    x = torch.linspace(-1, 1, size + shift).to(dtype).to(CARD)[shift:].requires_grad_()
    got, mask = torch.native_dropout(x, 0.25, True)
    kept = torch.from_numpy(dropout_keeps(size, x.element_size(), x.data_ptr()))
    assert torch.equal(mask.cpu(), kept)
    torch.testing.assert_close(got.cpu(), (x.detach().cpu() * kept / 0.75).to(dtype))
    grad = torch.autograd.grad(got.sum(), x)[0] if not fell_back() else None
    torch.testing.assert_close(grad.cpu(), (kept / 0.75).to(dtype))
    assert offset() == philox.numbers(size, grid(size))


@pytest.mark.parametrize("layout", ["permuted", "with gaps", "permuted with gaps"])
@pytest.mark.parametrize("rows", [5, 6, 8])
def test_dropout_of_a_layout(layout, rows):
    """Several at a time lie side by side in memory; one at a time go by index."""
    x = torch.ones(rows, 14 if "gaps" in layout else 7, device=CARD)[:, :7]
    x = x.t() if "permuted" in layout else x
    got, mask = torch.native_dropout(x, 0.25, True)
    assert got.stride() == mask.stride() == torch.empty_like(x).stride()
    if layout == "permuted" and rows != 5:
        want = dropout_keeps(7 * rows, 4, x.data_ptr()).reshape(rows, 7).T
    else:
        want = philox.uniform(philox.bits(7 * rows, 1, 1234, 0)).reshape(x.shape) < 0.75
    assert np.array_equal(mask.cpu().numpy(), want)
    assert torch.equal(got.cpu(), mask.cpu() / 0.75)
    assert not fell_back()


def test_dropout_without_training():
    x = torch.linspace(-1, 1, 4001).to(CARD)
    assert torch.equal(torch.native_dropout(x, 0.25, False)[0].cpu(), x.cpu())
    assert not torch.native_dropout(x, 1.0, True)[0].any().item()


@pytest.mark.skipif(not fakecard.here(), reason="needs the names of the kernels that the wheel launches")
def test_a_thread_of_the_wheels_dropout_has_as_many_side_by_side():
    done = fakecard.run(
        """
        import torch, fakecard
        for dtype in (torch.float32, torch.float16, torch.float64):
            for size, shift in ((4096, 0), (4098, 0), (4092, 0), (4001, 0), (4096, 2), (4096, 4), (4096, 1)):
                x = torch.empty(size + 8, dtype=dtype, device="cuda")[shift : shift + size]
                fakecard.reset()
                try:
                    torch.native_dropout(x, 0.5, True)
                except RuntimeError:
                    print(size, x.element_size(), x.data_ptr(), *fakecard.counters()["launched"], sep=";")
        """,
        "RTX 5090",
    )
    lines = [line.split(";") for line in done.stdout.splitlines() if "fused_dropout" in line]
    assert len(lines) == 21, done.stderr
    for size, itemsize, address, kernel in lines:
        width = philox.dropout_width(int(size), int(itemsize), int(address), torch.__version__)
        assert ("fused_dropout_kernel_vec<" if width > 1 else "fused_dropout_kernel<") in kernel
        assert width == 1 or f", {width}, bool>" in kernel


def test_tokens_have_their_chances():
    chances = torch.tensor([0.0, 1.0, 2.0, 0.0, 5.0]).to(CARD)
    drawn = torch.stack([torch.multinomial(chances, 1) for _ in range(200)]).cpu().flatten()
    counts = torch.bincount(drawn, minlength=5)
    assert counts[0] == counts[3] == 0
    assert counts[1] < counts[2] < counts[4]
    rows = torch.multinomial(chances.expand(4, 5), 3).cpu()
    assert all(sorted(row.tolist()) == [1, 2, 4] for row in rows)


def test_permutations():
    got = torch.randperm(1000, device=CARD).cpu()
    assert torch.equal(got.sort().values, torch.arange(1000))
    assert not torch.equal(got, torch.arange(1000))


@pytest.mark.parametrize(
    "call",
    [
        lambda d: torch.empty(3, device=d).uniform_(2, 1),
        lambda d: torch.empty(3, device=d).normal_(0, -1),
        lambda d: torch.empty(3, device=d).exponential_(0),
        lambda d: torch.empty(3, device=d).bernoulli_(2),
        lambda d: torch.empty(3, device=d).geometric_(0),
        lambda d: torch.randint(5, 5, (3,), device=d),
        lambda d: torch.randint(0, 300, (3,), dtype=torch.uint8, device=d),
        lambda d: torch.empty(3, dtype=torch.int64, device=d).normal_(),
        lambda d: torch.multinomial(torch.tensor([1.0, -1.0]).to(d), 1),
        lambda d: torch.multinomial(torch.tensor([1.0, float("nan")]).to(d), 1),
        lambda d: torch.multinomial(torch.tensor([0.0, 0.0]).to(d), 1),
        lambda d: torch.multinomial(torch.tensor([1.0, 1.0]).to(d), 3),
        lambda d: torch.multinomial(torch.tensor([1, 1]).to(d), 1),
    ],
)
def test_errors_are_pytorchs(call):
    with pytest.raises(Exception) as want:  # noqa: PT011  (its type and text are what is compared)
        call("cpu")
    with pytest.raises(type(want.value)) as got:
        call(CARD)
    assert str(got.value).splitlines()[0] == str(want.value).splitlines()[0]


@pytest.mark.skipif(fakecard.here(), reason="needs PyTorch's own kernels")
def test_the_numbers_of_pytorchs_own_kernels():
    def drawn():
        torch.manual_seed(1234)
        return [
            torch.rand(300_000, device=CARD).cpu(),
            torch.rand(1000, device=CARD, dtype=torch.float64).cpu(),
            torch.randint(100, (1000,), device=CARD).cpu(),
            torch.empty(1000, dtype=torch.int64, device=CARD).random_().cpu(),
            torch.randn(300_000, device=CARD).cpu(),
            torch.empty(1000, device=CARD).exponential_().cpu(),
            *(torch.native_dropout(torch.ones(n, device=CARD), 0.25, True)[1].cpu() for n in (300_000, 4098, 4001)),
            *(torch.native_dropout(torch.ones(n, device=CARD).half(), 0.25, True)[1].cpu() for n in (300_000, 4092)),
            offset(),
        ]

    ours = drawn()
    bc.disable()
    try:
        theirs = drawn()
    except RuntimeError as error:
        pytest.skip(f"PyTorch's kernels do not work on this card: {error}")
    finally:
        bc.enable()
    assert ours[-1] == theirs[-1]
    for one, other in zip(ours[:-1], theirs[:-1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
