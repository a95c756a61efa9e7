"""enable() and disable(): what they change, what they refuse, what they count."""

import threading
import warnings

import blackwell_compat as bc
import fakecard
import pytest
import torch
from on_card import CARD, assert_no_launch, values


@pytest.fixture
def silent(monkeypatch):
    monkeypatch.setenv("BLACKWELL_COMPAT_FALLBACK", "silent")


def dispatch_tables():
    return {name: torch._C._dispatch_dump_table(name) for name in torch._C._dispatch_get_all_op_names()}


def test_without_it_the_card_fails_as_users_report():
    with pytest.raises(RuntimeError, match="no kernel image is available for execution on the device"):
        torch.ones(3, device=CARD)


@pytest.mark.parametrize("error", [200, 222])
def test_other_kernels_that_cannot_be_loaded(error, silent):
    """PTX of a newer toolkit than the driver's, say; the error does not last."""
    fakecard.fault("launch", error, times=10**6)
    with bc.enabled():
        assert torch.ones(3, device=CARD).sum().item() == 3


def test_what_is_no_want_of_kernels_is_raised(silent):
    fakecard.fault("launch", 701, times=10**6)
    with pytest.raises(RuntimeError), bc.enabled():
        pass


def test_disable_leaves_no_trace(silent):
    def switches():
        cuda = torch.backends.cuda
        return (
            torch.backends.cudnn.enabled,
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            torch.backends.mha.get_fastpath_enabled(),
        )

    before, switched = dispatch_tables(), switches()
    with bc.enabled():
        assert bc.is_enabled()
        during = dispatch_tables()
        assert sum(during[name] != table for name, table in before.items()) > 1000
        assert not any(switches())
    assert not bc.is_enabled()
    after = dispatch_tables()
    assert [name for name, table in before.items() if after[name] != table] == []
    assert switches() == switched
    with pytest.raises(RuntimeError, match="no kernel image"):
        torch.ones(3, device=CARD)


def test_enabled_leaves_an_outer_enable_alone(silent):
    bc.enable()
    try:
        with bc.enabled():
            pass
        assert bc.is_enabled()
        bc.enable()
    finally:
        bc.disable()
    bc.disable()


def test_coverage_names_what_serves_an_op(silent):
    assert bc.coverage() == {}
    with bc.enabled():
        covered = bc.coverage()
    assert covered["aten::add.out"] == "fallback"
    assert covered["aten::convolution"] == "fallback"
    assert covered["blackwell_compat::compat_conv1d"] == "fallback"
    assert covered["aten::copy_"] == "own"
    assert covered["aten::view"] == "kept"
    assert covered["aten::empty.memory_format"] == "kept"


def test_every_call_is_counted(silent):
    with bc.enabled():
        x = values(1000).to(CARD)
        bc.reset_fallbacks()
        fakecard.reset()
        y = x * 2
        (y + x).sum()
        report = bc.fallbacks()
        counted = fakecard.counters()
    by_op = {line.op: line for line in report.lines}
    assert by_op["aten::mul.Tensor"].calls == 1
    assert by_op["aten::mul.Tensor"].to_host_bytes == 4000
    assert by_op["aten::add.Tensor"].to_host_bytes == 0
    assert report.totals.to_host == counted["d2h"] == 1
    assert report.totals.to_device == counted["h2d"] == 3
    assert report.totals.to_device_bytes == counted["h2d_bytes"] == 4000 + 4000 + 4
    assert "aten::mul.Tensor" in str(report)
    assert report.to_dict()["totals"]["calls"] == report.totals.calls == 3
    assert "patch_model(model, mode='cpu')" in report.advice  # nothing has a kernel of its own on this card
    assert report.advice in " ".join(str(report).split())
    bc.reset_fallbacks()
    assert not bc.fallbacks().advice


def test_warns_once_per_op_with_its_price(monkeypatch):
    monkeypatch.setenv("BLACKWELL_COMPAT_FALLBACK", "warn")
    with bc.enabled():
        x = values(1000).to(CARD)
        with pytest.warns(UserWarning, match=r"aten::erfinv runs on the CPU.*us in its first call, 4000 bytes from"):
            torch.special.erfinv(x)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.special.erfinv(x)


def test_error_forbids_the_cpu(monkeypatch):
    monkeypatch.setenv("BLACKWELL_COMPAT_FALLBACK", "error")
    with bc.enabled():
        x = values(4).to(CARD)
        with pytest.raises(NotImplementedError, match=r"aten::mul.Tensor: no kernel of it works on this card"):
            x * 2
        assert torch.equal(x.cpu(), values(4))
    monkeypatch.setenv("BLACKWELL_COMPAT_FALLBACK", "loud")
    with pytest.raises(ValueError, match="must be one of warn, error, silent, got 'loud'"):
        bc.enable()


def test_an_error_of_the_op_changes_nothing(silent):
    with bc.enabled():
        x, y = values(6).to(CARD), values(4).to(CARD)
        with pytest.raises(RuntimeError, match="must match the size"):
            x.add_(y)
        with pytest.raises(IndexError):
            x[torch.tensor([7]).to(CARD)]
        assert torch.equal(x.cpu(), values(6))
        assert torch.equal((x + 1).cpu(), values(6) + 1)


def test_an_op_that_fails_half_way_leaves_the_card_alone(silent):
    library = torch.library.Library("failing", "DEF")
    library.define("half_done(Tensor(a!) x) -> ()")

    def half_done(x):
        x[:2] = 9.0
        raise RuntimeError("half done")

    library.impl("half_done", half_done, "CPU")
    with bc.enabled():
        x = values(6).to(CARD)
        assert torch.equal((x + 1).cpu(), values(6) + 1)  # from here on the host has a copy
        with pytest.raises(RuntimeError, match="half done"):
            torch.ops.failing.half_done(x)
        assert torch.equal((x + 1).cpu(), values(6) + 1)


def test_copies_that_fail_lose_nothing(silent):
    with bc.enabled():
        x = values(600).to(CARD)
        fakecard.fault("copy", 2, match="d2h")
        with pytest.raises(RuntimeError, match=r"CUDA driver: cuMemcpyDtoHAsync.*\(2\)"):
            x + 1
        fakecard.reset()
        assert torch.equal((x + 1).cpu(), values(600) + 1)


def test_memory_of_the_card_can_run_out(silent):
    with bc.enabled():
        x = values(1 << 18).to(CARD)
        torch.cuda.empty_cache()
        fakecard.fault("cudaMalloc", 2, times=10)
        with pytest.raises(torch.OutOfMemoryError if hasattr(torch, "OutOfMemoryError") else RuntimeError):
            x.repeat(64)
        fakecard.reset()
        assert torch.equal(x.repeat(2).cpu(), values(1 << 18).repeat(2))


def test_a_graph_cannot_record_the_cpu(silent):
    with bc.enabled():
        x = values(4).to(CARD)
        graph = torch.cuda.CUDAGraph()
        with pytest.raises(RuntimeError, match=r"aten::.*which a CUDA graph cannot record"), torch.cuda.graph(graph):
            x.mul_(2)


def test_disable_waits_for_nobody(silent):
    entered, leave = threading.Event(), threading.Event()
    library = torch.library.Library("held", "DEF")
    library.define("hold(Tensor x) -> Tensor")

    def hold(x):
        entered.set()
        leave.wait(30)
        return x + 1

    library.impl("hold", hold, "CPU")
    bc.enable()
    thread = threading.Thread(target=lambda: torch.ops.held.hold(values(3).to(CARD)))
    try:
        thread.start()
        assert entered.wait(30)
        with pytest.raises(RuntimeError, match="another thread is inside an op"):
            bc.disable()
        assert bc.is_enabled()
    finally:
        leave.set()
        thread.join()
        bc.disable()


def test_ops_of_other_libraries_with_a_cpu_kernel_run(silent, monkeypatch, capfd):
    library = torch.library.Library("elsewhere", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")
    with bc.enabled():
        fakecard.reset()  # enable() launched a kernel to see it fail
        assert torch.equal(torch.ops.elsewhere.twice(values(3).to(CARD)).cpu(), values(3) * 2)
        assert_no_launch()
    monkeypatch.setenv("BLACKWELL_COMPAT_FALLBACK", "warn")
    with bc.enabled():
        x = values(3).to(CARD)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.ops.elsewhere.twice(x)
            torch.ops.elsewhere.twice(x)
        # Older torch prints the warnings of such ops, newer hands them to Python
        told = capfd.readouterr().err + "".join(str(warning.message) for warning in caught)
        assert told.count("elsewhere::twice runs on the CPU") == 1


def test_host_copies_are_bounded(silent):
    with bc.enabled():
        from blackwell_compat import _C

        default = _C.fallback_host_limit()
        try:
            bc.set_host_cache(1 << 20)
            kept = [values(1 << 16).to(CARD) + i for i in range(12)]  # 256 KiB each
            assert _C.fallback_host_bytes() <= 1 << 20
            assert all(torch.equal(t.cpu(), values(1 << 16) + i) for i, t in enumerate(kept))
            del kept
            assert _C.fallback_host_bytes() == 0
            bc.set_host_cache(0)
            x = values(100).to(CARD)
            assert torch.equal(((x + 1) * x).cpu(), (values(100) + 1) * values(100))
            assert _C.fallback_host_bytes() == 0
        finally:
            bc.set_host_cache(default)


def test_many_sentences_of_any_length_do_not_grow(silent):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    from blackwell_compat import _C

    with bc.enabled():
        default = _C.fallback_host_limit()
        bc.set_host_cache(16 << 20)
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(50, 64), torch.nn.Linear(64, 256), torch.nn.GELU()).to(CARD)
        lengths = torch.randint(1, 200, (1500,)).tolist()
        try:
            with torch.inference_mode():
                for i, length in enumerate(lengths):
                    model(torch.zeros(1, length, dtype=torch.long).to(CARD))
                    if i == 500:
                        before = resident()
                    assert i % 100 or _C.fallback_host_bytes() <= 16 << 20
            assert resident() - before < 32 << 20
        finally:
            bc.set_host_cache(default)


def test_invalidate_after_a_foreign_write(silent):
    import ctypes

    with bc.enabled():
        x = values(64).to(CARD)
        x + 1
        driver = ctypes.CDLL("libcuda.so.1")
        host = torch.full((64,), 5.0)
        assert driver.cuMemcpyHtoD_v2(ctypes.c_ulonglong(x.data_ptr()), ctypes.c_void_p(host.data_ptr()), 256) == 0
        bc.invalidate(x)
        assert torch.equal((x + 1).cpu(), torch.full((64,), 6.0))


def test_backward_threads_and_others():
    code = """
    import threading, torch, blackwell_compat as bc
    bc.enable()
    def work(seed):
        torch.manual_seed(0)
        w = torch.full((16, 16), 0.01 * seed, device="cuda", requires_grad=True)
        x = torch.arange(256.0).view(16, 16).to("cuda")
        for _ in range(60):
            y = (x @ w).relu().sum()
            y.backward()
        wanted = 60 * torch.arange(256.0).view(16, 16).sum(0)[:, None].expand(16, 16)
        assert torch.allclose(w.grad.cpu(), wanted), (w.grad.cpu() - wanted).abs().max()
        done.append(seed)
    done = []
    threads = [threading.Thread(target=work, args=(i + 1,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(done) == 8
    print("all done")
    """
    (here,) = (name for name, card in fakecard.cards.items() if card["name"] == torch.cuda.get_device_name())
    done = fakecard.run(code, here)
    assert done.returncode == 0, done.stderr
    assert "all done" in done.stdout
