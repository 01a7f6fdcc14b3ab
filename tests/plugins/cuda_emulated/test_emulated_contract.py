"""What kernels.h promises beyond the values: statuses, empty tensors, order of execution, workspace."""

from __future__ import annotations

import ctypes
from itertools import product

import numpy as np
import pytest

from normexport.plugins.cuda import LAYOUTS
from tests.plugins.cuda_emulated import emulation_build, expected
from tests.plugins.cuda_emulated.emulated import HOPPER, KINDS, TURING, TYPES, Device, Norm, library, run, struct

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or ""),
]

OK, BAD_ARGUMENT, BAD_K, BAD_CHUNKS, UNSUPPORTED, WORKSPACE, TOO_LARGE, NO_DEVICE = range(8)
SEEDS = (1, 2, 3)


@pytest.mark.parametrize("dtype", TYPES)
def test_every_schedule_gives_the_same_bits(dtype: str) -> None:
    for kind, layout, device in product(KINDS, ("LINEAR", "CHW4", "HWC8"), (TURING, HOPPER)):
        norm = Norm(kind, dtype, layout, k=10, chunks=16)
        for shape in ((3, 5, 63), (2, 2, 5000)):
            x, scale, bias = expected.sample(norm, shape)
            first = run(norm, x, scale, bias, device=device)
            assert first.status == OK, first.message
            for seed in SEEDS:
                again = run(norm, x, scale, bias, device=device, seed=seed)
                assert again.status == OK, again.message
                assert again.y.tobytes() == first.y.tobytes(), f"{norm} {shape}, seed {seed}"


@pytest.mark.parametrize("dtype", TYPES)
def test_samples_may_lie_apart_and_anywhere(dtype: str) -> None:
    for layout, pad, offset in product(LAYOUTS, ((5, 0), (0, 7), (16, 16)), (0, 1, 3)):
        norm = Norm("l1", dtype, layout, pad=pad)
        x, scale, bias = expected.sample(norm, (3, 5, 24))
        plain = run(Norm("l1", dtype, layout), x, scale, bias)
        apart = run(norm, x, scale, bias, offset=offset)
        assert (plain.status, apart.status) == (OK, OK), apart.message
        difference = np.abs(plain.y.astype(np.float64) - apart.y.astype(np.float64))
        right = expected.reference(norm, x, scale, bias)
        assert dtype != "int8" or not difference.any(), norm
        assert dtype == "int8" or (expected.error(norm, apart.y, right, scale, bias) <= 1).all(), norm


@pytest.mark.parametrize("dtype", TYPES)
def test_y_may_be_x(dtype: str) -> None:
    for kind, layout, device in product(KINDS, LAYOUTS, (TURING, HOPPER)):
        norm = Norm(kind, dtype, layout)
        x, scale, bias = expected.sample(norm, (2, 5, 72))
        apart = run(norm, x, scale, bias, device=device)
        same = run(norm, x, scale, bias, device=device, in_place=True)
        assert (apart.status, same.status) == (OK, OK), same.message
        assert same.y.tobytes() == apart.y.tobytes(), norm


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_an_empty_tensor_gives_an_empty_result_without_a_launch(shape: tuple[int, int, int]) -> None:
    for kind, dtype in product(KINDS, TYPES):
        norm = Norm(kind, dtype)
        result = run(norm, np.zeros(shape, np.int8), np.ones(shape[1], np.float32), np.ones(shape[1], np.float32))
        assert (result.status, result.launches) == (OK, ())


def test_wrong_arguments_have_their_status() -> None:
    norm = Norm("topk", "float32", k=9)
    x, scale, bias = expected.sample(norm, (2, 2, 4))
    assert run(norm, x, scale, bias).status == BAD_K
    assert run(Norm("topk", "float32", k=5, instance=True), x, scale, bias).status == BAD_K
    assert run(Norm("range", "float32", chunks=0), x, scale, bias).status == BAD_CHUNKS
    assert run(norm, x, scale, bias, device=Device(0, 0, 0)).status == BAD_K
    assert run(Norm("l1", "float32"), x, scale, bias, device=Device(0, 0, 0)).status == NO_DEVICE
    lib, l1 = library(), struct(Norm("l1", "float32"), (2, 2, 4))
    lib.nx_emu_set_device(90, 132, 227 * 1024)
    assert lib.nx_cuda_norm(ctypes.byref(l1), None, None, None, None, None, 0, None) == BAD_ARGUMENT
    assert lib.nx_cuda_norm(None, None, None, None, None, None, 0, None) == BAD_ARGUMENT
    l1.type = 4  # float64
    assert lib.nx_cuda_norm(ctypes.byref(l1), *[x.ctypes.data] * 4, None, 0, None) == UNSUPPORTED


@pytest.mark.parametrize("kind", KINDS)
def test_a_workspace_that_is_missing_short_or_crooked_is_refused(kind: str) -> None:
    lib, norm = library(), struct(Norm(kind, "float32"), (8, 3, 20_000))
    lib.nx_emu_set_device(75, 40, 64 * 1024)
    needed = lib.nx_cuda_workspace(ctypes.byref(norm))
    assert needed % 256 == 0
    memory = np.zeros(8 * 3 * 20_000 + needed, np.float32)
    data = memory.ctypes.data
    room = -(-(data + 4 * 8 * 3 * 20_000) // 256) * 256
    if needed:
        for address, size in ((None, needed), (room, needed - 1), (room + 128, needed)):
            status = lib.nx_cuda_norm(ctypes.byref(norm), data, data, data, data, address, size, None)
            assert status == WORKSPACE


def test_the_workspace_depends_on_the_norm_alone() -> None:
    lib = library()
    for kind, dtype in product(KINDS, TYPES):
        norm, sizes = struct(Norm(kind, dtype), (8, 3, 20_000)), set()
        for device in (TURING, HOPPER, Device(120, 170, 99 * 1024)):
            lib.nx_emu_set_device(device.compute_capability, device.multiprocessors, device.shared_memory)
            sizes.add(lib.nx_cuda_workspace(ctypes.byref(norm)))
        assert len(sizes) == 1
