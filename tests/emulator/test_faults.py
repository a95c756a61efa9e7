"""What the kernels of kernels/faults.cu do wrong is reported, with the lines it happened in."""

import platform
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import emulator
from emulator.launching import KERNELS, launched

SOURCE = KERNELS.joinpath("faults.cu").read_text().splitlines()
SHUFFLE = "__shfl_xor_sync"


def with_lines(text: str) -> str:
    """`text`, {words} replaced by where "// line: words" stands in faults.cu."""

    def line(found: re.Match[str]) -> str:
        (number,) = (i for i, text in enumerate(SOURCE, 1) if text.endswith(f"// line: {found[1]}"))
        return f"tests/emulator/kernels/faults.cu:{number}"

    return re.sub(r"\{(.*?)\}", line, text)


def report(name, n=0, size=64, checked=False, block=64, shared_bytes=256, arch=800):
    """The launch's error without the kernel's name and the block, addresses as 0x; "" if there is none."""
    try:
        launched(name, np.ones(size, "f4"), np.zeros(size, "f4"), n, 1, block, shared_bytes, arch, checked)
    except emulator.EmulatorError as error:
        start = f"{name}, block (0,0,0), "
        return re.sub(r"0x[0-9a-f]{9,}", "0x", str(error).removeprefix(start))
    return ""


# What only the checked build finds: kernel, options, report. Threads run in the order of their numbers, after a barrier
# the last to come there first
CHECKED = [
    ("no_barrier", {}, "(0,0,0): writes byte 0 of shared memory in {written}, which thread (32,0,0) read in {read}"),
    (
        "no_barrier_before_write",
        {},
        "(0,0,0): reads byte 252 of shared memory in {still read}, which thread (63,0,0) wrote in {written over}",
    ),
    (
        "no_syncwarp",
        {"block": 32},
        "(1,0,0): writes byte 4 of shared memory in {lane wrote}, which thread (0,0,0) read in {lane read}",
    ),
    (
        "shuffle_for_syncwarp",
        {"block": 32},
        "(30,0,0): reads byte 124 of shared memory in {read behind it}, which thread (31,0,0) wrote in "
        "{wrote before the shuffle}",
    ),
    (
        "pairs",
        {"block": 32, "n": 2},
        "(2,0,0): writes byte 8 of shared memory in {pair wrote}, which thread (0,0,0) read in {pair read}",
    ),
    (
        "two_writers",
        {},
        "(1,0,0): writes byte 0 of shared memory in {both write}, which thread (0,0,0) wrote in {both write}",
    ),
    (
        "atomic_and_read",
        {},
        "(41,0,0): changes byte 0 of shared memory in {added}, which thread (40,0,0) read in {read early}",
    ),
    ("unwritten", {}, "(63,0,0): reads byte 252 of shared memory in {unwritten}, which nobody has written"),
    (
        "past_shared",
        {"shared_bytes": 252},
        "(63,0,0): writes 4 bytes at byte 252 of shared memory, which has 252, in {past shared}",
    ),
    (
        "write_at",
        {"n": 63, "size": 63},
        "(0,0,0): writes 4 bytes at 0x, 0 bytes past the end of a buffer of 252, in {write at}",
    ),
    ("read_at", {"n": -1}, "(0,0,0): reads 4 bytes at 0x, 4 bytes before a buffer of 256, in {read at}"),
    (
        "copy_struct",
        {"size": 33},
        "(0,0,0): writes 140 bytes at 0x, 0 bytes past the end of a buffer of 132, in {struct}",
    ),
    (
        "async",
        {"shared_bytes": 1024, "size": 256},
        "(63,0,0): reads byte 1008 of shared memory in {copy read}, which thread (63,0,0) copies to in {copied}; "
        "that copy is not waited for",
    ),
    (
        "async",
        {"n": 1, "shared_bytes": 1024, "size": 256},
        "(33,0,0): writes byte 528 of shared memory in {copied}, which thread (32,0,0) read in {copy read}",
    ),
    (
        "async_overwritten",
        {"block": 1},
        "(0,0,0): writes byte 12 of shared memory in {overwritten}, which thread (0,0,0) copies to in {under way}; "
        "that copy is not waited for",
    ),
]

BOTH = [
    (
        "barrier_in_branch",
        {},
        "(32,0,0): waits at __syncthreads in {second half}, but thread (0,0,0) at __syncthreads in {first half}",
    ),
    (
        "barrier_after_return",
        {"n": 40},
        "(40,0,0): returns, while thread (0,0,0) waits for it at __syncthreads in {alone}",
    ),
    ("async_unaligned", {"n": 1}, "(0,0,0): async_copy_16: 0x is not at a multiple of 16 in {unaligned}"),
    (
        "async_unaligned",
        {"n": 16},
        "(0,0,0): async_copy_16: byte 4 of shared memory is not at a multiple of 16 in {unaligned}",
    ),
    (
        "matrices_unaligned",
        {},
        "(0,0,0): load_matrices: byte 8 of shared memory is not at a multiple of 16 in {row at 8}",
    ),
    ("matrices_global", {}, "(0,0,0): load_matrices: not the block's shared memory in {row elsewhere}"),
    ("matrices_unaligned", {"arch": 700}, "(0,0,0): load_matrices needs sm_75, this is sm_70"),
    (
        "lane_returned",
        {"block": 32},
        f"(7,0,0): returns, while thread (0,0,0) waits for it at {SHUFFLE} in {{shuffle}}",
    ),
    (
        "lane_returned",
        {"block": 24},
        f"(0,0,0): {SHUFFLE} in {{shuffle}} with mask 0xffffffff names lanes the block lacks: this warp has 0xffffff",
    ),
    ("not_named", {}, "(8,0,0): __syncwarp in {not named} with mask 0xff does not name its own lane"),
    ("reads_unnamed", {}, "(0,0,0): __shfl_sync in {unnamed} reads lane 20, which mask 0xffff does not name"),
    (
        "two_shuffles",
        {},
        f"(31,0,0): {SHUFFLE} in {{other shuffle}} with mask 0xffffffff, but thread (0,0,0) is at {SHUFFLE} in "
        "{one shuffle} with mask 0xffffffff",
    ),
    (
        "shuffle_and_barrier",
        {"block": 32},
        f"(0,0,0): {SHUFFLE} in {{waits for ever}} waits for lanes 0xffffffff, but thread (16,0,0) waits at "
        "__syncthreads in {as does this}",
    ),
    ("trap", {}, "(3,0,0): __trap()"),
]

# What the guard pages find; the checked build finds it first and says it otherwise
CRASHES = [
    ("write_at", {"n": 64}, "(0,0,0): touches 0x, 0 bytes past the end of a buffer of 256, in {write at}"),
    ("read_at", {"n": -1, "size": 1024}, "(0,0,0): touches 0x, 4 bytes before a buffer of 4096, in {read at}"),
    (
        "past_shared",
        {"shared_bytes": 240},
        "(60,0,0): touches byte 240 of shared memory, which has 240, in {past shared}",
    ),
    (
        "async_past_end",
        {"size": 4, "n": 1, "block": 1},
        "(0,0,0): touches 0x, 0 bytes past the end of a buffer of 16, in {from past the end}",
    ),
    *([("divide", {}, "(0,0,0): integer division by zero, in {divide}")] if platform.machine() == "x86_64" else []),
]


@pytest.mark.parametrize(("name", "options", "text"), CHECKED)
def test_the_checked_build_reports(name, options, text):
    assert report(f"fault_{name}", checked=True, **options) == "thread " + with_lines(text) + (
        ", with no barrier between" if re.search("wrote in|read in", text) else ""
    )
    assert report(f"fault_{name}", checked=False, **options) == ""


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize(("name", "options", "text"), BOTH)
def test_every_build_reports(name, options, text, checked):
    assert report(f"fault_{name}", checked=checked, **options) == "thread " + with_lines(text)


@pytest.mark.parametrize(("name", "options", "text"), CRASHES)
def test_guard_pages_report(name, options, text):
    assert report(f"fault_{name}", **options) == "thread " + with_lines(text)
    assert report(f"fault_{name}", checked=True, **options)


@pytest.mark.parametrize(
    ("name", "n", "text"),
    [
        ("misaligned", 2, "touches 0x, which is in a buffer of 256, as a type aligned to 16, in {misaligned}"),
        (
            "misaligned_shared",
            0,
            "touches byte 4 of shared memory, which has 256, as a type aligned to 8, in {misaligned in shared}",
        ),
    ],
)
def test_the_checked_build_knows_what_a_card_wants_aligned(name, n, text):
    assert report(f"fault_{name}", n, checked=True) == "thread (0,0,0): " + with_lines(text)
    assert report("fault_misaligned", 4, block=1, checked=True) == ""


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
def test_a_stack_that_is_used_up(checked):
    assert "thread (0,0,0): its stack of 192 KiB is used up, in" in report("fault_deep", n=10**6, checked=checked)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("no_syncwarp", {"block": 32, "n": 1}),
        ("pairs", {"block": 32, "n": 1}),
        ("async", {"n": 2, "shared_bytes": 1024, "size": 256}),
        ("async_past_end", {"size": 4, "n": 0, "block": 1}),
        ("barrier_after_return", {"n": 64}),
        ("write_at", {"n": 63}),
    ],
)
def test_what_is_right_is_not_reported(name, options):
    assert report(f"fault_{name}", checked=True, **options) == ""


def test_a_copy_that_is_not_waited_for_is_not_there():
    x, y = np.ones(256, "f4"), np.full(64, 5, "f4")
    options = {"block": 64, "shared_bytes": 1024, "checked": False}
    assert (launched("fault_async", x, y, 0, **options) == 0).all()
    assert (launched("fault_async", x, y, 2, **options) == 1).all()
    assert (launched("fault_async", x, y, 0, arch=750, **options) == 1).all()  # no such copies there: at once
    assert np.isnan(launched("fault_async_not_committed", x, y, 0, **options | {"block": 1})[0])


def test_an_error_leaves_the_emulator_as_it_was():
    for _ in range(3):
        assert report("fault_barrier_in_branch")
        assert report("fault_write_at", n=64)
        assert (launched("test_add_one", np.ones(5, "f4"), np.zeros(5, "f4"), 5) == 2).all()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"block": 1025}, "test_add_one: block must have 1 to 1024 threads, got 1025"),
        ({"grid": (1, 70000)}, "test_add_one: grid must be 1 to 2^31 - 1, 65535, 65535, got 1, 70000, 1"),
        ({"shared_bytes": 300000}, "test_add_one: 300000 bytes of shared memory, at most 262144"),
        ({"params": b"1234"}, "test_add_one: parameters must be 24 bytes, got 4"),
        ({"name": "test_none"}, "no kernel is named test_none"),
    ],
)
def test_a_launch_that_is_wrong(change, text):
    launch = {"name": "test_add_one", "grid": 1, "block": 32, "params": bytes(24)} | change
    with pytest.raises(emulator.EmulatorError, match=f"^{re.escape(text)}$"):
        emulator.load(800, sources=KERNELS).launch(**launch)


def test_static_shared_variables_do_not_compile(tmp_path):
    tmp_path.joinpath("static.cu").write_text("void kernel() { __shared__ float x[3]; }")
    with pytest.raises(RuntimeError, match="static __shared__ variables are not emulated: take them from BC_SHARED"):
        emulator.build(750, sources=tmp_path)


def test_a_crash_outside_kernels_is_the_programs_own():
    code = f"""
        import ctypes, sys
        sys.path.insert(0, {str(KERNELS.parents[1])!r})
        import numpy as np
        from emulator.launching import launched
        launched("test_add_one", np.ones(5, "f4"), np.zeros(5, "f4"), 5)
        ctypes.string_at(8)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)])
    assert done.returncode == -11
