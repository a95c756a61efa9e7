"""The fake card as PyTorch sees it: what it is, what it refuses, memory and copies, faults."""

import fakecard
import pytest
import torch

CARD = fakecard.cards_here()[0]
NO_IMAGE = "no kernel image is available for execution on the device"


def test_pytorch_sees_the_card():
    found = torch.cuda.get_device_properties(0)
    assert torch.cuda.is_available()
    assert (found.name, found.major, found.minor) == (CARD["name"], CARD["major"], CARD["minor"])
    assert (found.total_memory, found.multi_processor_count) == (CARD["memory"], CARD["multiprocessors"])
    assert torch.cuda.get_device_capability() == (CARD["major"], CARD["minor"])


def test_a_kernel_without_an_image_fails_as_on_the_card():
    x = torch.empty(3, device="cuda")
    with pytest.raises(RuntimeError, match=f"CUDA error: {NO_IMAGE}"):
        x.add_(1)
    counted = fakecard.counters()
    (name,) = counted["refused"]
    assert "CUDAFunctorOnSelf_add<float>" in name
    assert counted["launched"] == {name: 1}
    assert not counted["not_emulated"]


def test_the_refusal_does_not_last():
    x = torch.arange(4.0).cuda()
    with pytest.raises(RuntimeError, match=NO_IMAGE):
        x.mul_(2)
    assert x.tolist() == [0, 1, 2, 3]


def test_a_card_that_the_wheel_fits_says_not_emulated():
    """Every wheel from 2.4 to 2.15 has code for an H100."""
    done = fakecard.run(
        """
        import fakecard, torch
        x = torch.empty(3, device="cuda")
        try:
            x.add_(1)
        except RuntimeError as error:
            assert "fakecard: this kernel is not emulated: void at::native::vectorized_elementwise" in str(error), error
        else:
            raise AssertionError("it ran")
        counted = fakecard.counters()
        assert list(counted["not_emulated"]) == list(counted["launched"]) and not counted["refused"], counted
        """,
        "H100",
    )
    assert done.returncode == 0, done.stderr


def test_matrix_product_fails():
    x = torch.empty(4, 4, device="cuda")
    with pytest.raises(RuntimeError):
        x @ x


def test_copies_go_down_and_up():
    want = torch.arange(10.0)
    assert torch.equal(torch.empty(10, device="cuda").copy_(want).cpu(), want)
    counted = fakecard.counters()
    assert (counted["h2d"], counted["h2d_bytes"]) == (1, 40)
    assert (counted["d2h"], counted["d2h_bytes"]) == (1, 40)
    assert not counted["launched"]


def test_copy_on_the_card():
    x = torch.arange(10.0).cuda()
    assert x.clone().tolist() == list(range(10))
    counted = fakecard.counters()
    assert (counted["d2d"], counted["d2d_bytes"]) == (1, 40)


def test_single_items_and_views():
    x = torch.arange(12).reshape(3, 4).cuda()
    assert x[1, 2].item() == 6
    assert x.t().cpu().tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert x.view(-1)[5:7].cpu().tolist() == [5, 6]


def test_state_dicts_come_back(tmp_path):
    layer = torch.nn.Linear(5, 3)
    want = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.cuda()
    torch.save(layer.state_dict(), tmp_path / "state.pt")
    got = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(value.is_cuda and torch.equal(value.cpu(), want[name]) for name, value in got.items())


def test_new_memory_is_not_zero():
    """A program that forgets to fill its memory has to see it."""
    torch.cuda.empty_cache()
    assert torch.empty(1000, device="cuda").cpu().abs().max() > 0


def test_pinned_memory():
    x = torch.randn(1000).pin_memory()
    assert x.is_pinned()
    assert not torch.randn(1000).is_pinned()
    assert torch.equal(x.to("cuda", non_blocking=True).cpu(), x)


def test_memory_is_accounted_for():
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    assert total == CARD["memory"]
    x = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    assert torch.cuda.mem_get_info()[0] == free - (64 << 20)
    del x
    torch.cuda.empty_cache()
    assert torch.cuda.mem_get_info()[0] == free


def test_out_of_memory():
    with pytest.raises(torch.cuda.OutOfMemoryError, match="Tried to allocate"):
        torch.empty(CARD["memory"] + 1, dtype=torch.uint8, device="cuda")
    assert torch.ones(3).cuda().tolist() == [1, 1, 1]


def test_memory_limit():
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    fakecard.change(memory_limit=total - free + (10 << 20))
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.empty(11 << 20, dtype=torch.uint8, device="cuda")
        assert torch.cuda.mem_get_info()[0] == 10 << 20
    finally:
        fakecard.change(memory_limit=0)
    assert torch.empty(11 << 20, dtype=torch.uint8, device="cuda").is_cuda


def test_the_third_allocation_fails():
    torch.cuda.empty_cache()
    fakecard.fault("cudaMalloc", 2, nth=3, times=2)  # PyTorch frees its cache and tries once more
    kept = [torch.empty(30 << 20, dtype=torch.uint8, device="cuda") for _ in range(2)]
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(30 << 20, dtype=torch.uint8, device="cuda")
    kept.append(torch.empty(30 << 20, dtype=torch.uint8, device="cuda"))
    assert len(kept) == 3


def test_the_second_copy_down_fails():
    x = torch.ones(3).cuda()
    fakecard.fault("copy", 1, nth=2, match="d2h")
    assert x.cpu().tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="CUDA error: invalid argument"):
        x.cpu()
    assert x.cpu().tolist() == [1, 1, 1]


def test_an_illegal_address_lasts_until_reset():
    x = torch.ones(3).cuda()
    fakecard.fault("launch", 700, match="CUDAFunctorOnSelf_add")
    with pytest.raises(RuntimeError, match="an illegal memory access was encountered"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="an illegal memory access was encountered"):
        x.cpu()
    fakecard.reset()
    assert x.cpu().tolist() == [1, 1, 1]


def test_an_unknown_card_is_named():
    with pytest.raises(KeyError, match="no card is named 'RTX 9090'"):
        fakecard.environment("RTX 9090")


def test_reset_clears_counters():
    torch.ones(3).cuda()
    assert fakecard.counters()["h2d"] == 1
    fakecard.reset()
    assert fakecard.counters()["h2d"] == 0
