"""The CUDA kernels, run on the CPU: every kind, type and layout against float64 numpy; int8 byte for byte."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport import norms
from normexport.plugins.cuda import LAYOUTS
from tests.plugins.cuda_emulated import emulation_build, expected
from tests.plugins.cuda_emulated.emulated import AMPERE, DTYPES, HOPPER, KINDS, TURING, TYPES, Device, Norm, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or ""),
]

#: (N, C, S): vectors with a rest, one position, one element, many channels, channels that no lane count divides.
SHAPES = [(2, 5, 63), (3, 37, 16), (4, 6, 1), (1, 3, 1), (2, 17, 49), (1, 1, 300), (2, 3, 1200)]
FLOATS = [name for name in TYPES if name != "int8"]


def require(norm: Norm, x: Any, scale: Any, bias: Any, **options: Any) -> None:
    """Run and compare; the message names the norm, the shape and the worst element."""
    result = run(norm, x, scale, bias, **options)
    assert result.status == 0, f"{norm} {x.shape} {options}: {result.message}"
    right = expected.reference(norm, x, scale, bias)
    if norm.type == "int8":
        wrong = np.argwhere(result.y != right)
        assert not len(wrong), (
            f"{norm} {x.shape} {options}: {len(wrong)} bytes differ, "
            f"first at {wrong[0]}: {result.y[tuple(wrong[0])]}, not {right[tuple(wrong[0])]}"
        )
        return
    errors = expected.error(norm, result.y, right, scale, bias)
    worst = np.unravel_index(np.nanargmax(errors), errors.shape) if errors.size else None
    assert np.all(errors <= 1), (
        f"{norm} {x.shape} {options}: {errors[worst]:.3g} times the allowed error at {worst}: "
        f"{result.y[worst]}, not {right[worst]}; {np.isnan(errors).sum()} NaN where there should be none"
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_kind_is_right_in_every_layout(dtype: str, layout: str) -> None:
    for kind, instance, shape in product(KINDS, (False, True), SHAPES):
        n = shape[2] if instance else shape[0] * shape[2]
        norm = Norm(kind, dtype, layout, instance, k=min(3, n))
        require(norm, *expected.sample(norm, shape))


@pytest.mark.parametrize("device", [TURING, AMPERE, HOPPER], ids=["sm75", "sm80", "sm90"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_device_gets_kernels_that_are_right(dtype: str, device: Device) -> None:
    """From what one block holds to what eight blocks' shared memory cannot."""
    shapes = [(1, 3, 1024), (4, 2, 3136), (3, 2, 9999), (5, 2, 31360)]
    layouts = ["LINEAR", "CHW4", "HWC8"]
    for kind, shape, layout in product(KINDS, shapes, layouts):
        norm = Norm(kind, dtype, layout, k=10, chunks=16)
        require(norm, *expected.sample(norm, shape), device=device)
    norm = Norm("l1", dtype, "LINEAR")
    require(norm, *expected.sample(norm, (8, 1, 100_000)), device=device)


@pytest.mark.parametrize("kind", KINDS)
def test_70000_halves_of_mean_3_do_not_overflow(kind: str) -> None:
    norm = Norm(kind, "float16", k=10, chunks=16)
    require(norm, *expected.sample(norm, (1, 2, 70_000)))
    x, scale, bias = np.full((1, 2, 70_000), 3, np.float16), np.ones(2, np.float32), np.array([0.5, -2], np.float32)
    np.testing.assert_array_equal(run(norm, x, scale, bias).y, np.broadcast_to(bias[None, :, None], x.shape))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_channel_is_exactly_its_bias(kind: str, dtype: str) -> None:
    norm = Norm(kind, dtype)
    x = np.full((3, 4, 37), 1 / 3, DTYPES[dtype])
    scale, bias = np.ones(4, np.float32), np.array([0, 1, -3, 0.25], np.float32)
    y = run(norm, x, scale, bias).y
    np.testing.assert_array_equal(y.astype(np.float32), np.broadcast_to(bias[None, :, None], x.shape))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_infinity_make_their_channel_nan_and_no_other(kind: str, dtype: str) -> None:
    for layout, value, place in product(("LINEAR", "HWC8", "CHW2"), (np.nan, np.inf, -np.inf), (0, 29, 62)):
        norm = Norm(kind, dtype, layout)
        x, scale, bias = expected.sample(norm, (2, 3, 63))
        x[1, 1, place] = value
        y = run(norm, x, scale, bias).y
        assert np.isnan(y[:, 1].astype(np.float32)).all(), norm
        np.testing.assert_array_equal(np.isnan(y[:, [0, 2]].astype(np.float32)), False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_at_most_pytorchs_own_far_from_zero(kind: str) -> None:
    """Mean 100, deviation 1e-3, float32: where the mean's rounding is all there is to lose."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    norm = Norm(kind, "float32", instance=True, k=10, chunks=16)
    random = np.random.default_rng(1)
    x = (100 + 1e-3 * random.standard_normal((4, 3, 5000))).astype(np.float32)
    scale, bias = np.ones(3, np.float32), np.zeros(3, np.float32)
    right = expected.reference(norm, x, scale, bias)
    d = torch.from_numpy(x) - torch.from_numpy(x).mean(-1, keepdim=True)
    statistic = norms.kind(kind).torch_statistic(d.flatten(0, 1), k=10, chunks=16, correction=0.0).reshape(4, 3)
    torchs = (d / (statistic[..., None] + norm.epsilon)).numpy()
    assert np.abs(run(norm, x, scale, bias).y - right).max() <= np.abs(torchs - right).max()


@pytest.mark.parametrize("kind", KINDS)
def test_int8_extremes_are_exact(kind: str) -> None:
    """Constant bytes, the two ends of the range, results that saturate, and factors that are not finite."""
    x = np.stack([np.full(63, -128), np.full(63, 127), np.where(np.arange(63) % 2, 127, -128), np.arange(63) - 31])
    x = np.repeat(x.astype(np.int8)[None], 2, axis=0)
    bias = np.array([-1, 0.5, 2.5, 1e9], np.float32)
    for scale, epsilon, k in product((1, -40, 1e6, 0, np.nan, np.inf), (1e-5, 0, 3), (1, 40, 126)):
        norm = Norm(kind, "int8", epsilon=epsilon, k=k)
        require(norm, x, np.full(4, scale, np.float32), bias)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_correction_replaces_the_kinds_own_factor(dtype: str) -> None:
    for kind in KINDS:
        norm = Norm(kind, dtype, correction=0.7)
        require(norm, *expected.sample(norm, (2, 3, 40)))


@pytest.mark.parametrize("dtype", TYPES)
def test_topk_is_right_for_every_k_and_for_many_ties(dtype: str) -> None:
    for k, shape in [(1, (2, 2, 65)), (130, (2, 2, 65)), (129, (2, 2, 65)), (2500, (1, 2, 5000)), (5000, (1, 2, 5000))]:
        norm = Norm("topk", dtype, k=k)
        x, scale, bias = expected.sample(norm, shape)
        require(norm, x, scale, bias)
        require(norm, (x > x.dtype.type(3 if dtype != "int8" else -30)).astype(x.dtype), scale, bias)


@pytest.mark.parametrize("dtype", TYPES)
def test_range_is_right_for_every_number_of_chunks(dtype: str) -> None:
    for chunks, layout in product((1, 2, 3, 7, 50, 126, 1000, 2**40), ("LINEAR", "HWC", "CHW4")):
        norm = Norm("range", dtype, layout, chunks=chunks)
        require(norm, *expected.sample(norm, (2, 3, 63)))
    for chunks in (2, 100, 5000):
        norm = Norm("range", dtype, chunks=chunks)
        require(norm, *expected.sample(norm, (3, 2, 20_000)))


@st.composite
def calls(draw: st.DrawFn) -> tuple[Norm, tuple[int, int, int], dict[str, Any]]:
    shape = draw(
        st.tuples(st.integers(1, 5), st.integers(1, 40), st.one_of(st.integers(1, 100), st.integers(100, 700)))
    )
    instance = draw(st.booleans())
    n = shape[2] if instance else shape[0] * shape[2]
    norm = Norm(
        draw(st.sampled_from(list(KINDS))),
        draw(st.sampled_from(list(TYPES))),
        draw(st.sampled_from(list(LAYOUTS))),
        instance,
        k=draw(st.integers(1, n)),
        chunks=draw(st.integers(1, n + 3)),
        pad=draw(st.sampled_from([(0, 0), (8, 0), (0, 16), (3, 5), (16, 32)])),
    )
    options = {
        "device": draw(st.sampled_from([TURING, AMPERE, HOPPER])),
        "seed": draw(st.integers(0, 1000)),
        "offset": draw(st.sampled_from([0, 0, 1, 2, 4, 8])),
        "in_place": draw(st.booleans()),
    }
    return norm, shape, options


@given(calls())
@settings(max_examples=250, derandomize=True)
def test_any_call_is_right(call: tuple[Norm, tuple[int, int, int], dict[str, Any]]) -> None:
    norm, shape, options = call
    require(norm, *expected.sample(norm, shape), **options)
