"""Each way to compute a norm, forced by the device that the emulation pretends to be, and shown to have been taken."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plugins.cuda_emulated import emulation_build, expected
from tests.plugins.cuda_emulated.emulated import DTYPES, TYPES, Device, Norm, run
from tests.plugins.cuda_emulated.test_emulated_kernels import require

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or ""),
]

#: sm_90 with so little shared memory that clusters of every size come in reach of small tensors, and so few
#: multiprocessors that none of them would idle.
CLUSTERS = Device(90, 1, 48 * 1024)
NO_CLUSTERS = Device(80, 1, 48 * 1024)
#: Less shared memory than the tiles of the tests take.
NO_TILES = Device(75, 40, 24 * 1024)
KINDS = ["l1", "linf", "l2", "topk", "range"]
FLOATS = [name for name in TYPES if name != "int8"]


def together(launches: tuple[str, ...]) -> int:
    """The largest number of blocks that a launch ran together."""
    return max(int(each.rsplit("x", 1)[1]) for each in launches)


@pytest.mark.parametrize("odd", [0, 4, 1])
@pytest.mark.parametrize("layout", ["LINEAR", "HWC", "HWC8", "CHW4", "CHW32"])
@pytest.mark.parametrize("dtype", TYPES)
def test_clusters_of_every_size_are_right_and_repeatable(dtype: str, layout: str, odd: int) -> None:
    """From one block's shared memory to more than eight blocks have, where x is read again instead; by the widest
    vectors, by some that a plane of `odd` more elements leaves, and element by element."""
    for kind in KINDS:
        norm, seen = Norm(kind, dtype, layout), set()
        channels = {"LINEAR": 1, "HWC": 8, "HWC8": 8, "CHW4": 4, "CHW32": 32}[layout]
        for kilobytes in (8, 16, 56, 110, 220, 400):
            space = kilobytes * 1024 // DTYPES[dtype].itemsize // channels // 2 // 16 * 16 + odd
            x, scale, bias = expected.sample(norm, (2, channels, space))
            require(norm, x, scale, bias, device=CLUSTERS)
            first = run(norm, x, scale, bias, device=CLUSTERS)
            again = run(norm, x, scale, bias, device=CLUSTERS, seed=kilobytes)
            assert first.y.tobytes() == again.y.tobytes(), again.message
            seen.add((len(first.launches) == 1, together(first.launches)))
        if layout == "LINEAR":
            assert seen == {(True, 1), (True, 2), (True, 4), (True, 8), (False, 1)}


@pytest.mark.parametrize("k", [1, 2, 10, 768, 2000, 20_000])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_cluster_finds_the_k_largest_of_all_its_blocks(dtype: str, k: int) -> None:
    """Among fewer candidates than k, among more, and among all elements where the candidates find no room."""
    norm = Norm("topk", dtype, k=k)
    x, scale, bias = expected.sample(norm, (2, 1, 30_000 * 4 // DTYPES[dtype].itemsize))
    require(norm, x, scale, bias, device=CLUSTERS)
    x[:] = np.where(np.arange(x.shape[2]) % 7 == 0, x, x[:, :, :1])  # most of them equal
    require(norm, x, scale, bias, device=CLUSTERS)
    assert together(run(norm, x, scale, bias, device=CLUSTERS).launches) > 1


@pytest.mark.parametrize("dtype", TYPES)
def test_before_sm90_what_one_block_cannot_hold_is_read_again(dtype: str) -> None:
    for kind in KINDS:
        norm = Norm(kind, dtype)
        x, scale, bias = expected.sample(norm, (2, 1, 110 * 1024 // 2 // DTYPES[dtype].itemsize))
        require(norm, x, scale, bias, device=NO_CLUSTERS)
        result = run(norm, x, scale, bias, device=NO_CLUSTERS)
        assert (len(result.launches) > 1, together(result.launches)) == (True, 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_nan_reaches_every_block_of_a_cluster(kind: str, dtype: str) -> None:
    norm = Norm(kind, dtype)
    x, scale, bias = expected.sample(norm, (2, 1, 110 * 1024 // 2 // DTYPES[dtype].itemsize // 8 * 8))
    for place in (0, x.shape[2] // 2, x.shape[2] - 1):
        bad = x.copy()
        bad[1, 0, place] = float("nan")
        result = run(norm, bad, scale, bias, device=CLUSTERS)
        assert together(result.launches) > 1
        assert (result.y.astype(float) != result.y.astype(float)).all()


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtype", TYPES)
def test_the_path_without_shared_tiles_is_right_too(dtype: str, offset: int) -> None:
    """With the widest vectors, and with pointers off their alignment, which leave none."""
    for kind in KINDS:
        norm = Norm(kind, dtype, k=10, chunks=16)
        x, scale, bias = expected.sample(norm, (4, 3, 3136))
        require(norm, x, scale, bias, device=NO_TILES, offset=offset)
        launches = run(norm, x, scale, bias, device=NO_TILES, offset=offset).launches
        assert (len(launches) > 1, together(launches)) == (True, 1)
