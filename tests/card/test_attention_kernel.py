"""scaled_dot_product_attention by this package's kernel, in mode kernel."""

import blackwell_compat as bc
import fakecard
import opinfo_kernels
import pytest
import reference
import torch
from by_our_kernels import on_card, only_ours, reset

pytestmark = pytest.mark.usefixtures("chosen")
F = torch.nn.functional
HALF = (torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize(
    ("name", "dtype"), opinfo_kernels.entries({"nn_functional_scaled_dot_product_attention": HALF})
)
def test_opinfo(name, dtype, monkeypatch):
    op = opinfo_kernels.OPS[name]  # its strides depend on which of PyTorch's kernels the CPU takes
    monkeypatch.setattr(op, "op", lambda *args, **kwargs: F.scaled_dot_product_attention(*args, **kwargs).contiguous())
    with torch.no_grad():
        opinfo_kernels.check(name, dtype, {"aten::bmm"}, most=6)


def attended(*tensors, **options):
    """The result on the card, of one kernel and at most what puts its splits together."""
    there = on_card(*tensors)
    mask = options.pop("attn_mask", None)
    if mask is not None:
        options["attn_mask"] = on_card(mask)[0]
    reset()
    bc.reset_fallbacks()
    with torch.no_grad():
        got = F.scaled_dot_product_attention(*there, **options)
    launched = only_ours()
    assert not bc.fallbacks().lines
    if fakecard.here():
        assert {name.split("_")[1] for name in launched} == {"attention"}, launched
    return got


def exact(*tensors, **options):
    mask = options.pop("attn_mask", None)
    mask = mask if mask is None or mask.dtype == torch.bool else mask.double()
    return F.scaled_dot_product_attention(*(t.double() for t in tensors), attn_mask=mask, **options)


def same(got, want):
    limit = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[got.dtype]
    torch.testing.assert_close(got.cpu().double(), want, rtol=limit, atol=limit)


def values(*shape, dtype=torch.float32):
    return [reference.values(*shape, dtype=dtype, seed=i) for i in range(3)]


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 3, 80, 64), {"scale": 0.125}),
        ((2, 2, 88, 64), {"is_causal": True}),
        ((1, 2, 40, 256), {}),
        ((2, 3, 20, 96), {"attn_mask": reference.values(2, 3, 1, 20, seed=4)}),
        ((2, 3, 20, 72), {"attn_mask": reference.values(20, 20, seed=4) > 0.5}),
        ((3, 20, 33), {"is_causal": True}),
        ((70, 16), {}),
    ],
    ids=["bert", "prefill", "perceiver", "flow", "mask", "three dimensions", "two dimensions"],
)
def test_models(shape, options, dtype):
    mask = options.get("attn_mask")
    if mask is not None and mask.dtype != torch.bool:
        options = {**options, "attn_mask": mask.to(dtype)}
    elif mask is not None:
        options = {**options, "attn_mask": mask | torch.eye(20, dtype=torch.bool)}
    arguments = values(*shape, dtype=dtype)
    got = attended(*arguments, **options)
    assert got.dtype == dtype
    same(got, exact(*arguments, **options))


def kinds_of(dtype):
    """Ends of the names of kernels: of few rows, of many that fill the card, of others."""
    capability = torch.cuda.get_device_capability()
    tensor_cores = capability >= ((8, 0) if dtype == torch.bfloat16 else (7, 5)) and dtype != torch.float32
    return ("few", "tall", "64") if tensor_cores else ("64", "64", "64")


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize(
    ("queries", "heads", "masked", "kind"),
    [(1, 2, False, 0), (16, 2, True, 0), (17, 2, False, 2), (17, 0, False, 1), (17, 0, True, 2)],
)
def test_kernels_by_shape(queries, heads, masked, kind, dtype):
    heads = heads or 2 * torch.cuda.get_device_properties(0).multi_processor_count
    shape = 1, heads, queries, 8
    arguments = values(*shape, dtype=dtype)
    options = {"attn_mask": torch.ones(queries, queries, dtype=torch.bool).tril()} if masked else {}
    there = on_card(*arguments)
    reset()
    with torch.no_grad():
        got = F.scaled_dot_product_attention(*there, **{name: t.to("cuda") for name, t in options.items()})
    launched = [name for name in only_ours() if "merge" not in name]
    same(got, exact(*arguments, **options))
    if fakecard.here():
        assert [name.split("_")[-1] for name in launched] == [kinds_of(dtype)[kind]]


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_step_of_decoding(dtype):
    q, k, v = reference.values(2, 4, 1, 64, dtype=dtype), *values(2, 4, 300, 64, dtype=dtype)[:2]
    first = attended(q, k, v)
    same(first, exact(q, k, v))
    assert torch.equal(first, attended(q, k, v))


def test_heads_lie_in_rows():
    """As PyTorch's own kernels leave them, so that joining them copies nothing; the inputs are read where they lie."""
    q, k, v = (reference.values(2, 30, 3, 64, seed=i).transpose(1, 2) for i in range(3))
    got = attended(q, k, v)
    assert got.transpose(1, 2).is_contiguous()
    same(got, exact(q, k, v))


@pytest.mark.skipif(torch.__version__ < "2.5", reason="enable_gqa is an argument from torch 2.5 on")
@pytest.mark.parametrize("queries", [1, 70])
def test_heads_that_share_keys(queries):
    q, k, v = reference.values(2, 8, queries, 32), *values(2, 2, 90, 32)[:2]
    same(attended(q, k, v, enable_gqa=True), exact(q, k, v, enable_gqa=True))


def test_queries_without_keys_are_as_in_pytorch():
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[2] = False
    arguments = values(1, 1, 6, 8)
    got = attended(*arguments, attn_mask=mask).cpu()
    want = torch._scaled_dot_product_attention_math(*arguments, torch.zeros(6, 6).masked_fill(~mask, -torch.inf))[0]
    torch.testing.assert_close(got, want, equal_nan=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda q, k, v: F.scaled_dot_product_attention(q.double(), k.double(), v.double()),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v[..., :3]),
        lambda q, k, v: F.scaled_dot_product_attention(q, k[:1], v[:1]),
        lambda q, k, v: F.scaled_dot_product_attention(q, k[..., :0, :], v[..., :0, :]),
        lambda q, k, v: F.scaled_dot_product_attention(q[:0], k[:0], v[:0]),
        lambda q, k, v: torch.func.vmap(F.scaled_dot_product_attention)(q, k, v),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.zeros(5, 5, device=q.device), 0.0),
    ],
    ids=["float64", "other width", "broadcast", "no keys", "empty", "vmap", "mask"],
)
def test_what_it_does_not_take_computes(call):
    arguments = values(2, 3, 5, 8)
    torch.testing.assert_close(call(*on_card(*arguments)).cpu(), call(*arguments), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_products():
    arguments = [t.requires_grad_() for t in values(2, 3, 9, 8)]
    there = on_card(*arguments)
    bc.reset_fallbacks()
    got = F.scaled_dot_product_attention(*there, is_causal=True)
    seed = reference.values(2, 3, 9, 8, seed=7)
    grads = torch.autograd.grad(got, there, seed.to(got.device))
    assert "aten::bmm" not in {line.op for line in bc.fallbacks().lines}
    want = F.scaled_dot_product_attention(*arguments, is_causal=True)
    torch.testing.assert_close(got.detach().cpu(), want.detach(), rtol=1e-5, atol=1e-5)
    for grad, its in zip(grads, torch.autograd.grad(want, arguments, seed), strict=True):
        torch.testing.assert_close(grad.cpu(), its, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"is_causal": True, "attn_mask": torch.zeros(5, 5)}, {"attn_mask": torch.zeros(4, 5)}, {"dropout_p": 2.0}],
    ids=["both masks", "a mask of other sizes", "dropout"],
)
def test_errors_are_pytorchs(options):
    arguments = values(2, 3, 5, 8)
    there = {name: t.to("cuda") if isinstance(t, torch.Tensor) else t for name, t in options.items()}
    with pytest.raises(RuntimeError) as on_cpu:
        F.scaled_dot_product_attention(*arguments, **options)
    with pytest.raises(RuntimeError) as on_the_card:
        F.scaled_dot_product_attention(*on_card(*arguments), **there)
    assert str(on_the_card.value).splitlines()[0] == str(on_cpu.value).splitlines()[0]


def test_what_the_cpu_wrote_is_seen():
    """Results of the fallback that are not uploaded yet go to the card first."""
    arguments = values(1, 2, 5, 8)
    there = on_card(*arguments)
    bc.set_lazy_upload(True)
    try:
        got = F.scaled_dot_product_attention(*(t * 2 for t in there))
    finally:
        bc.set_lazy_upload(False)
    same(got, exact(*(t * 2 for t in arguments)))


def test_under_autocast():
    arguments = values(1, 2, 5, 8)
    with torch.autocast("cuda", torch.bfloat16):
        got = F.scaled_dot_product_attention(*on_card(*arguments))
    assert got.dtype == torch.bfloat16
    same(got, exact(*(t.bfloat16() for t in arguments)))
