"""compat_linear by this package's kernels on a card: compiled by the NVRTC that is there, checked and started by the
driver, run by the emulator. No kernel of PyTorch is started.
"""

import copy

import blackwell_compat as bc
import fakecard
import opinfo
import pytest
import reference
import torch
from by_our_kernels import CARD, captured, compare, on_card, only_ours, reset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


pytestmark = pytest.mark.usefixtures("our_kernels")


def check(*arguments):
    compare(bc.compat_linear, torch.nn.functional.linear, arguments, {})


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_opinfo(dtype):
    for requires_grad in (False, True):
        for sample in opinfo.named("nn.functional.linear").sample_inputs("cpu", dtype, requires_grad=requires_grad):
            if sample.input.numel() and sample.args[0].dim() == 2:
                check(sample.input, *sample.args, **sample.kwargs)
            else:
                there = on_card(sample.input, *sample.args)
                got = bc.compat_linear(*there).cpu()
                torch.testing.assert_close(got, torch.nn.functional.linear(sample.input, *sample.args))
            opinfo.ran("nn.functional.linear", "backward" if requires_grad else "forward")
    only_ours()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    dtype=st.sampled_from(FLOATS),
    batch=st.lists(st.integers(0, 5), max_size=2),
    rows=st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 40, 65, 130]),
    n=st.sampled_from([1, 2, 8, 15, 16, 33, 64, 72, 129]),
    k=st.sampled_from([0, 1, 3, 8, 16, 31, 64, 104, 520]),
    transposed=st.tuples(st.booleans(), st.booleans()),
    offset=st.sampled_from([0, 1, 8]),
    bias=st.sampled_from(["none", "vector", "one", "expanded"]),
)
def test_any_shape(dtype, batch, rows, n, k, transposed, offset, bias):
    def laid(shape, across, seed):
        values = reference.values(*shape[:-2], shape[-1], shape[-2] + offset, dtype=dtype, seed=seed)
        values = values[..., offset:]
        return values.transpose(-1, -2) if across else values.transpose(-1, -2).contiguous()[..., : shape[-1]]

    x, weight = laid((*batch, rows, k), transposed[0], 0), laid((n, k), transposed[1], 1)
    biases = {
        "none": None,
        "vector": reference.values(n, dtype=dtype),
        "one": reference.values(1, dtype=dtype),
        "expanded": reference.values(1, dtype=dtype).expand(n),
    }
    reset()
    there = on_card(x, weight, biases[bias])
    got = bc.compat_linear(*there).cpu()
    want = torch.nn.functional.linear(*(None if t is None else t.double() for t in (x, weight, biases[bias])))
    magnitude = torch.nn.functional.linear(
        *(None if t is None else t.double().abs() for t in (x, weight, biases[bias]))
    )
    reference.assert_rounded(got, want, magnitude)
    if got.numel():
        only_ours()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "gelu_tanh", "silu", "tanh"])
@pytest.mark.parametrize("rows", [3, 40])
def test_activation(activation, rows):
    x, weight, bias = reference.values(rows, 64), reference.values(24, 64, seed=1), reference.values(24)
    got = bc.compat_linear(*on_card(x, weight, bias), activation=activation).cpu()
    only_ours()
    want = bc.compat_linear(x.double(), weight.double(), bias.double(), activation=activation)
    magnitude = torch.nn.functional.linear(x.abs(), weight.abs(), bias.abs())
    reference.assert_rounded(got, want, magnitude.double())


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_backward(dtype, rows):
    x = reference.values(2, rows, 64, dtype=dtype).requires_grad_()
    weight, bias = reference.values(24, 64, dtype=dtype, seed=1).requires_grad_(), reference.values(24, dtype=dtype)
    check(x, weight, bias.requires_grad_())
    only_ours()


def test_long_sums_are_split_and_stay_the_same():
    x, weight = on_card(reference.values(20, 4096), reference.values(24, 4096, seed=1))
    results = [bc.compat_linear(x, weight).cpu() for _ in range(3)]
    assert not fakecard.here() or "compat_gemm_reduce_f32" in only_ours()
    assert all(torch.equal(results[0], other) for other in results)
    reference.assert_as_accurate(results[0], x.cpu() @ weight.cpu().T, x.cpu().double() @ weight.cpu().double().T)


def test_large_tiles_where_they_fill_the_card():
    rows = 128 * torch.cuda.get_device_properties(CARD).multi_processor_count
    x, weight = on_card(reference.values(rows, 32), reference.values(128, 32, seed=1))
    got = bc.compat_linear(x, weight).cpu()
    assert not fakecard.here() or any(name.endswith("_128") for name in only_ours())
    reference.assert_as_accurate(got, x.cpu() @ weight.cpu().T, x.cpu().double() @ weight.cpu().double().T)


def test_tf32_only_where_pytorch_may():
    x, weight = on_card(torch.full((20, 16), 1 + 2.0**-12), torch.ones(8, 16))
    exact = 16 * (1 + 2.0**-12)
    assert bc.compat_linear(x, weight).cpu().unique().tolist() == [exact]
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        coarse = torch.cuda.get_device_capability() >= (8, 0)
        assert bc.compat_linear(x, weight).cpu().unique().tolist() == [16.0 if coarse else exact]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_streams():
    x, weight = on_card(reference.values(20, 64), reference.values(24, 64, seed=1))
    if fakecard.here():
        fakecard.change(latency_ms=2)
    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            got = bc.compat_linear(x, weight)
        stream.synchronize()
        torch.testing.assert_close(got.cpu(), x.cpu() @ weight.cpu().T, rtol=1e-5, atol=1e-5)
    finally:
        if fakecard.here():
            fakecard.change(latency_ms=0)


@pytest.mark.skipif(not fakecard.here(), reason="needs two cards of different generations")
def test_two_cards_have_their_own_kernels():
    done = fakecard.run(
        """
        import threading
        import emulator, fakecard, torch
        import blackwell_compat as bc
        from blackwell_compat import _C, kernels
        emulator.install()
        x, weight = torch.linspace(-1, 1, 40 * 64).view(40, 64), torch.linspace(2, -1, 24 * 64).view(24, 64)
        want, wrong = x @ weight.T, []
        def work(index):  # from several threads at once, each of which may be the first
            there = [t.to(f"cuda:{index}") for t in (x, weight)]
            for _ in range(3):
                got = bc.compat_linear(*there)
                if got.device.index != index or not torch.allclose(got.cpu(), want, rtol=1e-5, atol=1e-5):
                    wrong.append(index)
        for index in range(2):
            assert kernels.examine(torch.device("cuda", index)) is None
            _C.kernels_set_serve(index, True)
        threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(6)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert not wrong, wrong
        assert all(name.startswith("compat_") for name in fakecard.counters()["launched"])
        """,
        ["RTX 5090", "TITAN Xp"],
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not fakecard.here(), reason="counts what the driver refused")
def test_a_driver_that_takes_no_machine_code_gets_ptx(tmp_path, monkeypatch):
    """CUDA_FORCE_PTX_JIT=1, which takes the wheel's own kernels away as well; machine code is tried once."""
    monkeypatch.setenv("CUDA_FORCE_PTX_JIT", "1")
    monkeypatch.setenv("BLACKWELL_COMPAT_CACHE_DIR", str(tmp_path))
    done = fakecard.run(
        """
        import emulator, torch
        import blackwell_compat as bc
        emulator.install()
        layer = torch.nn.Linear(64, 32).cuda()
        report = bc.patch_model(layer)
        assert report.mode == "kernel", report.why
        got = layer(torch.ones(3, 64).cuda()).cpu()
        torch.testing.assert_close(got, layer.cpu()(torch.ones(3, 64)), rtol=1e-5, atol=1e-5)
        """,
        "H100",
    )
    assert done.returncode == 0, done.stderr
    compiled_to = [file.read_bytes().partition(b"NVRTC ")[2].split(b"\n")[1] for file in tmp_path.iterdir()]
    assert compiled_to.count(b"sm_90") == 1
    assert compiled_to.count(b"compute_90") == len(compiled_to) - 1 > 1


def test_autotuning_keeps_the_fastest_way_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("BLACKWELL_COMPAT_AUTOTUNE", "1")
    monkeypatch.setenv("BLACKWELL_COMPAT_CACHE_DIR", str(tmp_path))
    x, weight = on_card(reference.values(40, 2048), reference.values(24, 2048, seed=1))
    reset()
    first = bc.compat_linear(x, weight).cpu()
    tried = only_ours()
    reset()
    again = bc.compat_linear(x, weight).cpu()
    assert torch.equal(first, again)
    if fakecard.here():
        assert {"compat_gemm_f32_nt_64", "compat_gemm_f32_nt_128", "compat_gemm_reduce_f32"} <= tried.keys()
        assert sum(only_ours().values()) <= 2
    kept = [file.read_bytes() for file in tmp_path.iterdir()]
    assert any(b"fastest of" in data and torch.cuda.get_device_name().encode() in data for data in kept)
    reference.assert_as_accurate(first, x.cpu() @ weight.cpu().T, x.cpu().double() @ weight.cpu().double().T)


@pytest.mark.usefixtures("chosen")
def test_a_graph_records_what_was_loaded():
    x, weight = on_card(reference.values(20, 64), reference.values(24, 64, seed=1))
    assert bc.warmup(CARD, dtypes=[torch.float32]) > 0
    graph, got = captured(lambda: bc.compat_linear(x, weight))
    x.copy_(reference.values(20, 64, seed=5))
    graph.replay()
    torch.testing.assert_close(got.cpu(), x.cpu() @ weight.cpu().T, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("chosen")
def test_a_graph_refuses_what_was_not_loaded():
    x = on_card(torch.ones(512, 18 * 128, dtype=torch.float16).T)[0]  # large and strided, as in no other test
    with pytest.raises(
        RuntimeError, match=r"compat_gemm_f16_tn_(128|256) is not loaded on cuda:0 yet.*blackwell_compat\.warmup"
    ):
        captured(lambda: bc.compat_linear(x, x))


@pytest.mark.usefixtures("chosen")
def test_mode_kernel_serves_linear_layers_and_the_fallback_the_rest():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 8), torch.nn.LayerNorm(8))
    x = torch.randn(5, 32)
    want = model(x)
    there = copy.deepcopy(model).to(CARD)
    report = bc.patch_model(there, "kernel")
    assert [line.provider for line in report.modules if line.patched] == ["ours (kernel)"] * 2
    reset()
    bc.reset_fallbacks()
    got = there(x.to(CARD))
    torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-5)
    only_ours()
    assert not any("linear" in line.op for line in bc.fallbacks().lines)
    assert bc.coverage()["blackwell_compat::compat_linear"] == "kernel"
    got.sum().backward()
    want.sum().backward()
    torch.testing.assert_close(there[0].weight.grad.cpu(), model[0].weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("chosen")
def test_a_hybrid_model_beside_it_computes_on_the_host():
    layer = torch.nn.Sequential(torch.nn.Linear(32, 64)).to(CARD)
    bc.patch_model(layer, "hybrid")
    reset()
    got = layer(torch.ones(3, 32).to(CARD))
    assert not fakecard.here() or not fakecard.counters()["launched"]
    torch.testing.assert_close(got.cpu(), layer.cpu()(torch.ones(3, 32)), rtol=1e-5, atol=1e-5)
