"""CUDA's functions as the emulation has them, against Python's own integers and numpy's floats."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plugins.cuda_emulated import emulation_build

pytestmark = pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or "")

Words = NDArray[np.uint32]

#: Floats at the edges of what converts: ties, both zeros, subnormals, limits of int and of the halves, NaN, infinities.
EDGES = np.array(
    [
        *(0.5, 1.5, 2.5, -0.5, -2.5, 0.0, -0.0, 1e-45, 127.5, -128.5, 2147483520, 2147483648, -2147483648, -3e9, 3e9),
        *(65504, 65519.9, 65520, 5.9e-8, 2.9e-8, 2.98023223876953125e-8, 3.3895e38, 3.4e38, np.inf, -np.inf, np.nan),
    ],
    np.float32,
)


@cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL(str(emulation_build.build("probes")))


def words(name: str, a: Words, b: Words, c: Words) -> Words:
    out = np.zeros_like(a)
    pointers = [ctypes.c_void_p(each.ctypes.data) for each in (a, b, c, out)]
    assert library().nx_words(name.encode(), len(a), *pointers) == 1, f"no {name}"
    return out


def operands() -> tuple[Words, Words, Words]:
    a, b, c = np.random.default_rng(0).integers(0, 2**32, (3, 500), dtype=np.uint32)
    a[:4], b[:4] = [0, 0x80808080, 0x7F7F7F7F, 0xFFFFFFFF], [0x80808080, 0x7F7F7F7F, 0x80808080, 0xFFFFFFFF]
    b[4:60] = a[4:60]
    return a, b, c


def by_bytes(dtype: Any, f: Callable[[NDArray[np.int64], NDArray[np.int64]], Any]) -> Callable[[Words, Words], Any]:
    """f on each of the four bytes of two words, its results cut to bytes."""

    def whole(a: Words, b: Words) -> Any:
        return f(*(each.view(dtype).astype(np.int64) for each in (a, b))).astype(np.uint8).view(np.uint32)

    return whole


def sums(dtype: Any, f: Callable[[NDArray[np.int64], NDArray[np.int64]], Any]) -> Callable[[Words, Words], Any]:
    def whole(a: Words, b: Words) -> Any:
        return f(*(each.view(dtype).astype(np.int64).reshape(-1, 4) for each in (a, b))).sum(axis=1)

    return whole


PAIRS: dict[str, Callable[[Words, Words], Any]] = {
    "__vadd4": by_bytes(np.uint8, lambda a, b: a + b),
    "__vsub4": by_bytes(np.uint8, lambda a, b: a - b),
    "__vaddss4": by_bytes(np.int8, lambda a, b: np.clip(a + b, -128, 127)),
    "__vsubss4": by_bytes(np.int8, lambda a, b: np.clip(a - b, -128, 127)),
    "__vmaxs4": by_bytes(np.int8, np.maximum),
    "__vmins4": by_bytes(np.int8, np.minimum),
    "__vmaxu4": by_bytes(np.uint8, np.maximum),
    "__vminu4": by_bytes(np.uint8, np.minimum),
    "__vabsdiffs4": by_bytes(np.int8, lambda a, b: np.abs(a - b)),
    "__vabsdiffu4": by_bytes(np.uint8, lambda a, b: np.abs(a - b)),
    "__vcmpeq4": by_bytes(np.uint8, lambda a, b: 255 * (a == b)),
    "__vcmpgts4": by_bytes(np.int8, lambda a, b: 255 * (a > b)),
    "__vcmplts4": by_bytes(np.int8, lambda a, b: 255 * (a < b)),
    "__vsads4": sums(np.int8, lambda a, b: np.abs(a - b)),
    "__vsadu4": sums(np.uint8, lambda a, b: np.abs(a - b)),
    "__umulhi": lambda a, b: a.astype(np.uint64) * b >> np.uint64(32),
    "__mulhi": lambda a, b: a.view(np.int32).astype(np.int64) * b.view(np.int32) >> 32,
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_function_of_two_words_is_cudas(name: str) -> None:
    a, b, c = operands()
    np.testing.assert_array_equal(words(name, a, b, c), np.asarray(PAIRS[name](a, b)).astype(np.uint32))


@pytest.mark.parametrize(("name", "dtype"), [("__dp4a_signed", np.int8), ("__dp4a_unsigned", np.uint8)])
def test_dp4a_adds_four_products(name: str, dtype: Any) -> None:
    a, b, c = operands()
    products = sums(dtype, lambda x, y: x * y)(a, b)
    np.testing.assert_array_equal(words(name, a, b, c), (products + c).astype(np.uint32))


def test_bits_are_moved_and_counted_as_cuda_does() -> None:
    a, b, c = operands()
    names = ("__funnelshift_l", "__funnelshift_r", "__popc", "__clz", "__ffs", "__byte_perm")
    got = {name: words(name, a, b, c).tolist() for name in names}
    for i, (x, y, z) in enumerate(zip(a.tolist(), b.tolist(), c.tolist(), strict=True)):
        both, shift = y << 32 | x, z % 32
        assert got["__funnelshift_l"][i] == (both << shift) >> 32 & 0xFFFFFFFF
        assert got["__funnelshift_r"][i] == both >> shift & 0xFFFFFFFF
        assert got["__popc"][i] == bin(x).count("1")
        assert got["__clz"][i] == 32 - x.bit_length()
        assert got["__ffs"][i] == (x & -x).bit_length()
        chosen = [both >> 8 * (z >> 4 * k & 7) & 255 for k in range(4)]
        signs = [255 * (byte >> 7) if z >> 4 * k & 8 else byte for k, byte in enumerate(chosen)]
        assert got["__byte_perm"][i] == sum(byte << 8 * k for k, byte in enumerate(signs))


def test_floats_round_to_integers_half_to_even_and_saturate() -> None:
    bits = EDGES.view(np.uint32)
    limits = np.iinfo(np.int32)
    for name, whole in (("__float2int_rn", np.rint), ("__float2int_rz", np.trunc)):
        right = np.clip(np.where(np.isnan(EDGES), 0, whole(EDGES.astype(np.float64))), limits.min, limits.max)
        np.testing.assert_array_equal(words(name, bits, bits, bits).view(np.int32), right.astype(np.int32))


@pytest.mark.parametrize(("name", "dtype"), [("half", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_halves_round_half_to_even(name: str, dtype: Any) -> None:
    values = np.concatenate([EDGES, np.random.default_rng(1).standard_normal(500).astype(np.float32) * 100])
    bits = values.view(np.uint32)
    with np.errstate(over="ignore"):
        right = values.astype(dtype)
    got = words(name, bits, bits, bits).astype(np.uint16).view(dtype)
    np.testing.assert_array_equal(got.astype(np.float32), right.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(got.astype(np.float32))[:-1], np.signbit(right.astype(np.float32))[:-1])


def test_each_float_operation_rounds_once() -> None:
    a, b, c = np.random.default_rng(2).standard_normal((3, 500)).astype(np.float32)
    bits = [each.view(np.uint32) for each in (a, b, c)]
    for name, right in (("__fmul_rn", a * b), ("__fadd_rn", a + b), ("__fdiv_rn", a / b)):
        np.testing.assert_array_equal(words(name, *bits).view(np.float32), right)
    # The product of two floats is exact in float64, and so is nearly every sum with a third: one rounding in all.
    fused = (a.astype(np.float64) * b + c).astype(np.float32)
    np.testing.assert_array_equal(words("__fmaf_rn", *bits).view(np.float32), fused)


@pytest.mark.parametrize("width", [2, 8, 16, 32])
def test_shuffles_read_the_lane_that_cuda_names(width: int) -> None:
    x, lane = np.arange(32, dtype=np.int32) * 3 + 1, np.arange(32)
    first = lane // width * width
    for argument in (0, 1, 3, 7, 16, 31):
        sources = {
            0: first + argument % width,
            1: np.where((lane ^ argument) < first + width, lane ^ argument, lane),
            2: np.where(lane - argument >= first, lane - argument, lane),
            3: np.where(lane + argument < first + width, lane + argument, lane),
        }
        for kind, source in sources.items():
            y = np.zeros_like(x)
            data = [ctypes.c_void_p(each.ctypes.data) for each in (x, y)]
            assert library().nx_shuffle(kind, argument, width, *data) == 0
            np.testing.assert_array_equal(y, x[source], err_msg=f"kind {kind}, argument {argument}")


def test_votes_count_every_lane() -> None:
    for x in (np.zeros(32, np.int32), np.ones(32, np.int32), np.arange(32, dtype=np.int32) % 3):
        right = [sum(1 << lane for lane in range(32) if x[lane]), any(x), all(x)]
        for kind, expected in zip((4, 5, 6), right, strict=True):
            y = np.zeros_like(x)
            data = [ctypes.c_void_p(each.ctypes.data) for each in (x, y)]
            assert library().nx_shuffle(kind, 0, 32, *data) == 0
            np.testing.assert_array_equal(y.view(np.uint32), np.full(32, expected, np.uint32))
