"""Storages that Python made run Python when they go, which must not meet a lock of this package's."""

import fakecard
import pytest

HERE = fakecard.names_here()[0]
START = """
    import faulthandler, io, threading, time, weakref
    import blackwell_compat as bc, torch
    faulthandler.dump_traceback_later(60, exit=True)
    bc.enable(force=True)
    x = torch.ones(4).cuda()
"""


def test_freed_storages_may_run_python():
    """What a storage of Python's does when it goes may be an op: no lock of the fallback is held."""
    code = """
    ran = []
    for i in range(70):
        y = x + 1
        storage = y.untyped_storage()
        y.data_ptr()
        if i == 63:
            weakref.finalize(storage, lambda: ran.append((x + 1).sum().item()))
        del storage, y
    assert ran == [8]
    """
    done = fakecard.run(START + code, HERE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("ask", ["bc.stats()", "bc._C.clear_caches()", "third(row)"])
def test_freed_weights_may_run_python(ask):
    code = f"""
    def layer():
        model = torch.nn.Sequential(torch.nn.Linear(64, 64)).eval()
        bc.patch_model(model)
        return model

    torch.set_grad_enabled(False)
    ran, row = [], torch.randn(1, 64)
    first, other, third = layer(), layer(), layer()
    first(row), first(row), other(row)
    weakref.finalize(first[0].weight.untyped_storage(), lambda: ran.append(other(row)))
    del first
    {ask}
    assert ran
    """
    done = fakecard.run(START + code, HERE)
    assert done.returncode == 0, done.stderr


def test_loading_beside_ops_that_hold_pythons_lock():
    code = """
    data = io.BytesIO()
    torch.save(torch.ones(300), data)
    live = [x + i for i in range(200)]
    for one in live:
        one.data_ptr()
    over, rounds = time.monotonic() + 3, [0, 0]

    def load():
        while time.monotonic() < over:
            y = torch.load(io.BytesIO(data.getvalue()), map_location="cuda", weights_only=True)
            y.data_ptr()
            y + 1
            rounds[0] += 1

    def index():
        while time.monotonic() < over:
            x[True,]
            rounds[1] += 1

    threads = [threading.Thread(target=work) for work in (load, index)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(rounds) > 10, rounds
    """
    done = fakecard.run(START + code, HERE)
    assert done.returncode == 0, done.stderr
