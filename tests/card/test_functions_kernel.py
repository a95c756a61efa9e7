"""PyTorch's own functions in mode kernel: what this package's kernels can do of them they do, the CPU the rest."""

import blackwell_compat as bc
import fakecard
import pytest
import reference
import torch
from by_our_kernels import on_card, only_ours, reset

pytestmark = pytest.mark.usefixtures("chosen", "exact_products")
F = torch.nn.functional
PRODUCTS = {
    "mm": (torch.mm, [(20, 30), (30, 24)]),
    "one row": (torch.mm, [(1, 64), (64, 24)]),
    "bmm": (torch.bmm, [(3, 20, 30), (3, 30, 24)]),
    "addmm": (torch.addmm, [(24,), (20, 30), (30, 24)]),
    "addmm of a column": (torch.addmm, [(20, 1), (20, 30), (30, 24)]),
    "baddbmm": (torch.baddbmm, [(20, 24), (3, 20, 30), (3, 30, 24)]),
    "addmm of factors": (lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2), [(24,), (20, 30), (30, 24)]),
    "baddbmm of factors": (lambda c, a, b: torch.baddbmm(c, a, b, alpha=0.25), [(3, 1, 24), (3, 20, 30), (3, 30, 24)]),
    "linear": (F.linear, [(2, 20, 32), (24, 32), (24,)]),
    "matmul": (torch.matmul, [(2, 3, 20, 16), (2, 1, 16, 20)]),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=3, dilation=2), [(2, 24, 40), (20, 24, 5), (20,)]),
    "conv1d of groups": (lambda x, w: F.conv1d(x, w, padding="same", groups=4), [(2, 64, 40), (72, 16, 3)]),
    "conv1d of one sample": (lambda x, w: F.conv1d(x, w), [(24, 40), (20, 24, 5)]),
    "conv_transpose1d": (
        lambda x, w, b: F.conv_transpose1d(x, w, b, stride=3, padding=2, output_padding=1),
        [(2, 24, 20), (24, 20, 7), (20,)],
    ),
    "einsum": (lambda a, b: torch.einsum("bhqd,bhkd->bhqk", a, b), [(2, 3, 20, 16), (2, 3, 24, 16)]),
}


def fell_back():
    """The ops that the CPU did since reset_fallbacks(), but for gradients' sums over broadcast dimensions."""
    return {line.op for line in bc.fallbacks().lines} - {"aten::sum.dim_IntList", "aten::copy_", "aten::clone"}


def test_an_addend_that_counts_for_nothing():
    a, b = on_card(reference.values(3, 5, 8), reference.values(3, 8, 4, seed=1))
    nothing = torch.full((3, 5, 4), float("nan")).to(a.device)
    reset()
    bc.reset_fallbacks()
    got = torch.baddbmm(nothing, a, b, beta=0, alpha=0.5)
    only_ours()
    assert not fell_back()
    torch.testing.assert_close(got.cpu(), torch.bmm(a.cpu(), b.cpu()) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name, dtype):
    function, sizes = PRODUCTS[name]
    arguments = [reference.values(*size, dtype=dtype, seed=i).requires_grad_() for i, size in enumerate(sizes)]
    there = on_card(*arguments)
    reset()
    bc.reset_fallbacks()
    got = function(*there)
    seed = reference.values(*got.shape, dtype=dtype, seed=9)
    grads = torch.autograd.grad(got, there, seed.to(got.device))
    only_ours()
    assert not fell_back()
    wide = [t.detach().double().requires_grad_() for t in arguments]
    exact, peer = function(*wide), function(*arguments)
    reference.assert_as_accurate(got.detach().cpu(), peer.detach(), exact.detach())
    for grad, its_peer, its_exact in zip(
        grads,
        torch.autograd.grad(peer, arguments, seed),
        torch.autograd.grad(exact, wide, seed.double()),
        strict=True,
    ):
        reference.assert_as_accurate(grad.cpu(), its_peer, its_exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_transforms(dtype):
    x, window = reference.values(2, 400, dtype=dtype).requires_grad_(), torch.hann_window(16, dtype=dtype)

    def there_and_back(x, window):
        spectrum = torch.stft(x, 16, 4, window=window, center=False, return_complex=True)
        return spectrum, torch.istft(spectrum, 16, 4, window=window, center=True)

    card_x, card_window = on_card(x, window)
    reset()
    bc.reset_fallbacks()
    got = there_and_back(card_x, card_window)
    seed = reference.values(*got[1].shape, dtype=dtype)
    (grad,) = torch.autograd.grad(got[1], card_x, seed.to(card_x.device))
    launched = only_ours()
    assert not fakecard.here() or {name.split("_")[1] for name in launched} >= {"stft", "istft"}
    assert not any("fft" in op or "stft" in op for op in fell_back())
    want = there_and_back(x, window)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours.detach().cpu(), theirs.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad.cpu(), torch.autograd.grad(want[1], x, seed)[0], rtol=1e-5, atol=1e-5)


def test_an_stft_that_pads():
    x = reference.values(2, 400)
    got = torch.stft(*on_card(x), 16, 4, window=torch.hann_window(16).to("cuda"), return_complex=True)
    torch.testing.assert_close(got.cpu(), torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True))


@pytest.mark.parametrize(
    "call",
    [
        lambda c, a, b: torch.mm(a, b, out=c.clone()),
        lambda c, a, b: torch.mm(a.int(), b.int()),
        lambda c, a, b: torch.mm(a.to(torch.complex64), b.to(torch.complex64)),
        lambda c, a, b: torch.stft(a.to(torch.complex64), 8, 4, return_complex=True, onesided=False),
    ],
    ids=["out", "integers", "complex", "complex signals"],
)
def test_what_ours_cannot_do_falls_back(call):
    arguments = [reference.values(20, 24), reference.values(20, 30), reference.values(30, 24)]
    there = on_card(*arguments)
    torch.testing.assert_close(call(*there).cpu(), call(*arguments), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda a: torch.mm(a, a),
        lambda a: torch.addmm(a, a, a.t()),
        lambda a: torch.mm(a, a.t().double()),
        lambda a: torch.bmm(a, a),
    ],
    ids=["sizes", "addend", "dtypes", "dimensions"],
)
def test_errors_are_pytorchs(call):
    x = reference.values(20, 30)
    with pytest.raises(RuntimeError) as on_cpu:
        call(x)
    with pytest.raises(RuntimeError) as on_the_card:
        call(*on_card(x))
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]


def test_what_the_cpu_wrote_is_seen():
    """Results of the fallback that are not uploaded yet go to the card before a kernel reads them."""
    x = on_card(reference.values(20, 30))[0]
    bc.set_lazy_upload(True)
    try:
        y = x * 2
        got = torch.mm(y, y.t())
    finally:
        bc.set_lazy_upload(False)
    want = (x.cpu() * 2) @ (x.cpu() * 2).T
    torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not fakecard.here(), reason="counts launches")
def test_modes_without_kernels_take_the_cpu(our_kernels):
    card = torch.device("cuda", 0)
    x = on_card(reference.values(20, 30))[0]
    our_kernels.choose(card, False)
    try:
        fakecard.reset()
        torch.mm(x, x.t())
        torch.stft(x, 16, 4, return_complex=True)
        assert not fakecard.counters()["launched"]
    finally:
        our_kernels.choose(card)


COMPOSITES = {
    "conj_physical": (torch.conj_physical, [(5, 6)], torch.complex64),
    "attention": (F.scaled_dot_product_attention, [(1, 2, 5, 16)] * 3, torch.float32),
    "rms_norm": (lambda x, w: F.rms_norm(x, (16,), w), [(3, 16), (16,)], torch.float32),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites_have_gradients_of_both_directions(name):
    """What our kernels take above autograd they leave alone where it looks on."""
    function, sizes, dtype = COMPOSITES[name]
    values = [reference.values(*size, 2, seed=i) for i, size in enumerate(sizes)]
    values = [torch.view_as_complex(v) if dtype.is_complex else v[..., 0].contiguous() for v in values]
    sides = []
    for given in (values, on_card(*values)):
        leaves = [t.clone().requires_grad_() for t in given]
        out = function(*leaves)
        assert out.requires_grad
        grads = torch.autograd.grad(out.abs().square().sum(), leaves)
        with torch.autograd.forward_ad.dual_level():
            duals = [torch.autograd.forward_ad.make_dual(t, t * 0.5 + 1) for t in given]
            tangent = torch.autograd.forward_ad.unpack_dual(function(*duals)).tangent
        sides.append([out.detach(), *grads, tangent])
    for want, got in zip(*sides, strict=True):
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites_of_fake_tensors_have_shapes_alone(name):
    function, sizes, dtype = COMPOSITES[name]
    reset()
    with torch._subclasses.FakeTensorMode():
        out = function(*(torch.empty(size, dtype=dtype, device="cuda") for size in sizes))
        assert (out.shape, out.device.type) == (torch.Size(sizes[0]), "cuda")
    assert not fakecard.here() or not fakecard.counters()["launched"]
