"""Each probe kernel is right, and its broken twin is caught: by the emulation, by wrong numbers, or by a sanitizer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plugins.cuda_emulated import emulation_build

Floats = NDArray[np.float32]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or ""),
]

N = 256
SEEDS = range(1, 9)
CAUGHT_BY_NUMBERS, CAUGHT_BY_SEEDS = "wrong numbers", "wrong numbers under other seeds"
ASAN, TSAN = "AddressSanitizer", "ThreadSanitizer"


def same(x: Floats) -> Floats:
    return x


def shifted(x: Floats) -> Floats:
    return np.append(x[1:], np.float32(0))


@dataclass(frozen=True)
class Probe:
    """`caught`: a part of the emulation's message, or one of the means above."""

    name: str
    expected: Callable[[Floats], Floats]
    caught: str


PROBES = [
    Probe("missing_barrier", lambda x: x[::-1], CAUGHT_BY_NUMBERS),
    Probe("write_after_read", lambda x: shifted(x) + 2 * shifted(shifted(x)), CAUGHT_BY_SEEDS),
    Probe("shared_write_beyond", same, "write beyond a shared array"),
    Probe("shared_write_beyond", same, ASAN),
    Probe("shared_read_beyond", same, ASAN),
    Probe("global_read_beyond", same, ASAN),
    Probe("global_write_beyond", same, "guard"),
    Probe("global_write_beyond", same, ASAN),
    Probe("plain_add", lambda x: np.bincount(x.astype(int), minlength=N).astype(np.float32), TSAN),
    Probe("copy_not_awaited", lambda x: x.reshape(-1, 4)[:, ::-1].ravel(), CAUGHT_BY_NUMBERS),
    Probe("wrong_copy_awaited", same, CAUGHT_BY_NUMBERS),
    Probe("wrong_mask", lambda x: x.reshape(-1, 32).sum(1).repeat(32), "different masks"),
    Probe("exited_lane", same, "have exited"),
    Probe("missing_syncwarp", lambda x: x.reshape(-1, 2)[:, ::-1].ravel(), CAUGHT_BY_NUMBERS),
    Probe("missing_syncwarp", lambda x: x.reshape(-1, 2)[:, ::-1].ravel(), TSAN),
    Probe("divergent_barrier", same, "exit"),
    Probe("different_barriers", same, "different barriers"),
    Probe("misaligned_vector", same, "misaligned"),
    Probe("uninitialised_shared", same, CAUGHT_BY_NUMBERS),
    Probe("order_of_arrival", same, CAUGHT_BY_SEEDS),
    Probe("cluster_read_too_early", lambda x: np.roll(x, -64), CAUGHT_BY_NUMBERS),
    Probe("cluster_exit_while_peers_read", lambda x: np.roll(x, -64), "no cluster barrier since"),
    Probe("cluster_peer_not_started", lambda x: np.roll(x, -64), "may not have started"),
    Probe("missing_grid_barrier", lambda x: x[::-1], CAUGHT_BY_NUMBERS),
    Probe("missing_fence", lambda x: x + 1, TSAN),
    Probe("race_between_blocks", same, TSAN),
]


class Outcome:
    """One run of a probe in this process: y, the status, what the emulation said, and whether guards were touched."""

    def __init__(self, probe: str, broken: bool, seed: int) -> None:
        library = probes()
        library.nx_emu_set_seed(seed)
        library.nx_emu_clear()
        x, y = library.nx_emu_alloc(4 * N), library.nx_emu_alloc(4 * N)
        view = np.ctypeslib.as_array((ctypes.c_float * N).from_address(x))
        view[:] = inputs()
        self.status = library.nx_probe(probe.encode(), broken, x, y)
        self.y = np.ctypeslib.as_array((ctypes.c_float * N).from_address(y)).copy()
        self.message = library.nx_emu_error().decode()
        self.guard = bool(library.nx_emu_free(x) | library.nx_emu_free(y))


def inputs() -> Floats:
    """What run_probe.cpp uses as well."""
    return (np.arange(N) * 7 % 31).astype(np.float32)


def probes() -> ctypes.CDLL:
    library = ctypes.CDLL(str(emulation_build.build("probes")))
    library.nx_emu_alloc.argtypes, library.nx_emu_alloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.nx_emu_free.argtypes = [ctypes.c_void_p]
    library.nx_emu_error.restype = ctypes.c_char_p
    library.nx_emu_set_seed.argtypes = [ctypes.c_uint64]
    library.nx_probe.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    return library


@pytest.mark.parametrize("probe", {each.name: each for each in PROBES}.values(), ids=lambda probe: str(probe.name))
def test_a_healthy_kernel_is_right_under_every_seed(probe: Probe) -> None:
    for seed in (0, *SEEDS):
        outcome = Outcome(probe.name, False, seed)
        assert (outcome.status, outcome.guard) == (0, False), outcome.message
        np.testing.assert_array_equal(outcome.y, probe.expected(inputs()))


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe.name}-{probe.caught.replace(' ', '_')}")
def test_a_broken_kernel_is_caught(probe: Probe) -> None:
    if probe.caught in (ASAN, TSAN):
        program = emulation_build.build("probes_asan" if probe.caught == ASAN else "probes_tsan")
        broken = emulation_build.run_sanitized(program, probe.name, "broken")
        assert broken.returncode != 0
        assert probe.caught in broken.stderr
        return
    expected = probe.expected(inputs())
    outcome = Outcome(probe.name, True, 0)
    if probe.caught == CAUGHT_BY_NUMBERS:
        assert outcome.status == 0
        assert not np.array_equal(outcome.y, expected)
    elif probe.caught == CAUGHT_BY_SEEDS:
        assert any(not np.array_equal(Outcome(probe.name, True, seed).y, expected) for seed in SEEDS)
    elif probe.caught == "guard":
        assert outcome.guard
    else:
        assert outcome.status != 0
        assert probe.caught in outcome.message
        assert probe.name.split("_")[0] in outcome.message or "read_peer" in outcome.message


@pytest.mark.parametrize("variant", ["asan", "tsan"])
def test_healthy_kernels_are_clean_under_a_sanitizer(variant: str) -> None:
    done = emulation_build.run_sanitized(emulation_build.build(f"probes_{variant}"))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_table_knows_every_probe() -> None:
    library = probes()
    library.nx_probe_name.restype = ctypes.c_char_p
    names: list[str] = []
    while (name := library.nx_probe_name(len(names))) is not None:
        names.append(name.decode())
    assert set(names) == {probe.name for probe in PROBES}


def test_a_report_names_kernel_block_thread_and_line() -> None:
    message = Outcome("misaligned_vector", True, 0).message
    for part in ("misaligned_vector<true>", "block (0, 0, 0)", "thread (0, 0, 0)", "probes.cu:"):
        assert part in message


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    orders = [Outcome("order_of_arrival", True, seed).y for seed in (5, 5, 6)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
