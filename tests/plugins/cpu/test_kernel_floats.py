"""The compiled kernels on floats, against the formulas in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest

from normexport import norms
from normexport.norms import Scope
from normexport.plugins import norm_call
from tests.plugins.cpu.kernel_cases import EPSILON, KINDS, case, check, needs_library

pytestmark = needs_library

SHAPES = [
    (2, 3, 1),
    (1, 5, 7),
    (4, 6, 7, 7),
    (3, 2, 9, 7),
    (3, 3, 3137),
    (40, 20, 14, 14),  # straddles vectors and tiles
    (2, 3, 2, 3, 5),
    (1, 2, 40000),  # more than one part in a run
    (700, 2, 33),  # many runs in a part
]


@pytest.mark.parametrize("instance", [False, True], ids=["batch", "instance"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_and_type_gives_the_formula(kind: str, dtype: str, instance: bool) -> None:
    for shape in SHAPES:
        n = int(np.prod(shape[2:])) * (1 if instance else shape[0])
        check(kind, *case(shape, dtype), scope=Scope.of(instance), k=min(10, n), chunks=5)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_gives_the_formula_rounded_once(kind: str) -> None:
    torch = pytest.importorskip("torch", reason="bfloat16 comes as torch tensors")
    x, scale, bias = (torch.from_numpy(each) for each in case((3, 5, 9, 9), "float32"))
    y = norm_call.norm(kind, x.bfloat16(), scale, bias, epsilon=EPSILON)
    exact = norms.reference(
        norms.KINDS[kind], x.bfloat16().double().numpy(), scale.numpy(), bias.numpy(), epsilon=EPSILON
    )
    assert y.dtype == torch.bfloat16
    assert (np.abs(y.double().numpy() - exact) <= 2.0**-8 * np.abs(exact) + 1e-6).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_top_k_is_exact_for_every_k(dtype: str) -> None:
    for shape, ks in [((2, 2, 30), (1, 2, 16, 17, 59, 60)), ((1, 2, 3000), (1, 10, 33, 64, 65, 700, 2999, 3000))]:
        for k in ks:
            check("topk", *case(shape, dtype, seed=k), k=k)


@pytest.mark.parametrize("values", ["sorted", "reversed", "ties", "two values", "one outlier"])
def test_top_k_of_ordered_and_tied_values_is_exact(values: str) -> None:
    rng = np.random.default_rng(5)
    x: np.ndarray = rng.standard_normal((1, 1, 20000)).astype(np.float32)
    if values == "sorted":
        x = np.sort(x, axis=2)
    elif values == "reversed":
        x = np.sort(x, axis=2)[:, :, ::-1].copy()
    elif values == "ties":
        x = np.round(x * 4) / 4
    elif values == "two values":
        x = np.sign(x)
    else:
        x[:] = 0
        x[0, 0, 777] = 5
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    for k in (1, 10, 500):
        check("topk", x, one, zero, k=k)


@pytest.mark.parametrize("chunks", [1, 2, 7, 16, 100, 5000])
@pytest.mark.parametrize("shape", [(4, 2, 196), (3, 2, 17), (2, 1, 33000)])
def test_range_cuts_chunks_across_samples_and_parts(shape: tuple[int, ...], chunks: int) -> None:
    check("range", *case(shape, "float32"), chunks=chunks)
    check("range", *case(shape, "float32"), chunks=chunks, scope=Scope.INSTANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_a_constant_channel_gives_exactly_its_bias(kind: str, dtype: str) -> None:
    for value in (0.0, 0.1, -3.7, 1e4):
        x = np.full((3, 2, 700), value, dtype)
        bias = np.array([0.25, -1.5], "float64" if dtype == "float64" else "float32")
        y = norm_call.norm(kind, x, np.full_like(bias, 1.7), bias)
        assert (y == bias.astype(dtype)[:, None]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_element_gives_bias_and_an_empty_batch_nothing(kind: str) -> None:
    x, scale, bias = case((1, 4), "float32")
    assert (norm_call.norm(kind, x, scale, bias, k=1)[0] == bias).all()
    assert norm_call.norm(kind, x[:0], scale, bias).shape == (0, 4)
    assert norm_call.norm(kind, np.zeros((2, 4, 0), np.float32), scale, bias).shape == (2, 4, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_a_value_that_is_not_finite_makes_its_channel_nan_and_no_other(kind: str, poison: float, dtype: str) -> None:
    for at in (0, 15, 240):
        x, scale, bias = case((3, 3, 241), dtype)
        clean = norm_call.norm(kind, x, scale, bias, threads=2)
        x[1, 1, at] = poison
        y = norm_call.norm(kind, x, scale, bias, threads=2)
        assert np.isnan(y[:, 1]).all()
        assert (y[:, ::2] == clean[:, ::2]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_keeps_70000_values_of_mean_3_apart(kind: str) -> None:
    # A float16 sum would be infinite after 22,000 of them, and a float16 mean off by 0.001.
    x, scale, bias = case((7, 1, 100, 100), "float16", offset=3.0, spread=0.1)
    check(kind, x, scale, bias)


def test_a_result_too_large_for_float16_is_infinite() -> None:
    x = np.array([[[-1, 1]]], np.float16)
    y = norm_call.norm("linf", x, np.array([1e6], np.float32), np.zeros(1, np.float32))
    assert np.isposinf(y[0, 0, 1])
    assert np.isneginf(y[0, 0, 0])


def test_float16_results_are_rounded_to_nearest_even() -> None:
    # Two elements -d, d of an L2 norm are -scale, scale: every float32 midpoint between halves can be asked for.
    rng = np.random.default_rng(3)
    halves = rng.integers(0x0001, 0x7BFE, 3000).astype(np.uint16)
    between = (halves.view(np.float16).astype(np.float32) + (halves + 1).view(np.float16).astype(np.float32)) / 2
    x = np.tile(np.array([-1, 1], np.float16), (1, len(between), 1))
    y = norm_call.norm("l2", x, between, np.zeros_like(between), epsilon=0.0)
    assert (y[0, :, 1].view(np.uint16) == halves + (halves & 1)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_memory_may_be_unaligned_strided_and_in_place(kind: str, dtype: str) -> None:
    x, scale, bias = case((6, 9, 13, 11), "float32", spread=30)
    x = x.astype(dtype)
    expected = norm_call.norm(kind, x, scale, bias)
    for shift in (1, 3, 16):
        raw = np.zeros(x.size + 64, dtype)
        moved = raw[shift : shift + x.size].reshape(x.shape)
        moved[:] = x
        assert norm_call.norm(kind, moved, scale, bias).tobytes() == expected.tobytes()
        assert norm_call.norm(kind, moved, scale, bias, out=moved) is moved
        assert moved.tobytes() == expected.tobytes()
        assert not raw[:shift].any()
        assert not raw[shift + x.size :].any()
    every_second = np.zeros((12, 9, 13, 11), dtype)
    every_second[::2] = x
    out = np.zeros((18, 9, 13, 11), dtype)
    norm_call.norm(kind, every_second[::2], scale, bias, out=out[::3])
    assert out[::3].tobytes() == expected.tobytes()
    assert not out[1::3].any()


def test_results_beyond_the_cache_are_written_whole() -> None:
    # Large enough to be written past the caches, with rows that end within a cache line.
    x, scale, bias = case((16, 90, 15, 15), "float32")
    raw = np.full(x.size + 40, 7, np.float32)
    out = raw[5 : 5 + x.size].reshape(x.shape)
    norm_call.norm("l1", x, scale, bias, epsilon=EPSILON, out=out, threads=2)
    assert out.tobytes() == check("l1", x, scale, bias).tobytes()
    assert (raw[:5] == 7).all()
    assert (raw[5 + x.size :] == 7).all()


def test_correction_replaces_the_kinds_own_constant() -> None:
    for kind in KINDS:
        check(kind, *case((2, 3, 50), "float32"), correction=1.5)
