"""Weights rounded by least squares: what counts is the error on inputs, computed here from the inputs themselves."""

from __future__ import annotations

import types
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.precision.int8 import rounding
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.corrections import Corrections, pairs_of
from normexport.precision.int8.moments import moments_of, why_no_moments
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.rounded import round_weights
from normexport.precision.int8.weights import add_to_bias, by_group
from normexport.runtime import Float64Runtime
from tests.precision.int8.linked_graphs import Graph

pytestmark = pytest.mark.slow

Array = np.ndarray
Round = Callable[[Array, Array], Array]


def inputs(seed: int, groups: int, rows: int, length: int) -> Array:
    """Strongly correlated inputs (groups, rows, length)."""
    random = np.random.default_rng(seed)
    shared = random.standard_normal((groups, rows, 2)) @ random.standard_normal((groups, 2, length))
    return shared + 0.1 * random.standard_normal((groups, rows, length))


def lost(weight: Array, whole: Array, x: Array) -> float:
    """The mean square of what the results are off by."""
    return float(np.mean(np.square((weight - whole) @ x.swapaxes(1, 2))))


def moments(x: Array) -> Array:
    return x.swapaxes(1, 2) @ x / x.shape[1]


def near_the_best(round_: Round) -> None:
    """Of all ways to round six weights up or down, what is found loses little more than the best, and less than half
    of what rounding to nearest does on the whole."""
    ratios, gains = [], []
    for seed in range(12):
        x = inputs(seed, 1, 200, 6)
        weight = np.random.default_rng(seed).uniform(-20, 20, (1, 1, 6))
        ways = [np.floor(weight) + np.array(each) for each in product((0, 1), repeat=6)]
        best = min(lost(weight, way, x) for way in ways)
        found = round_(weight, moments(x))
        assert np.array_equal(found, np.rint(found))
        ratios.append(lost(weight, found, x) / best)
        gains.append(lost(weight, found, x) / lost(weight, np.rint(weight), x))
    assert np.median(ratios) < 4, ratios
    assert np.median(gains) < 0.5, gains


def beats_nearest(round_: Round) -> None:
    """Over more weights than a block, in two groups, on their own inputs."""
    x = inputs(3, 2, 500, 150)
    weight = np.random.default_rng(0).uniform(-127, 127, (2, 5, 150))
    found = round_(weight, moments(x))
    assert np.abs(found).max() <= 127
    assert lost(weight, found, x) < 0.03 * lost(weight, np.rint(weight), x)
    for group in range(2):
        one = round_(weight[group : group + 1], moments(x[group : group + 1]))
        np.testing.assert_array_equal(found[group : group + 1], one)


def keeps_nearest(round_: Round) -> None:
    """Where inputs have nothing to do with each other, or are all zero, to nearest is best."""
    weight = np.random.default_rng(1).uniform(-127, 127, (2, 3, 9))
    weight[0, 0, :2] = 140, -140
    for second in (np.stack([np.eye(9)] * 2), np.zeros((2, 9, 9))):
        np.testing.assert_array_equal(round_(weight, second), np.clip(np.rint(weight), -127, 127))


def check_never_worse(round_: Round, seed: int, length: int) -> None:
    """Than to nearest, row by row, by the moments with the hundredth of their mean that is added to each."""
    x = inputs(seed, 1, 40, length)
    second = moments(x) + 0.01 * np.trace(moments(x)[0]) / length * np.eye(length)
    weight = np.random.default_rng(seed).uniform(-150, 150, (1, 8, length))
    found, nearest = round_(weight, moments(x)), np.clip(np.rint(weight), -127, 127)
    assert np.array_equal(found, np.clip(np.rint(found), -127, 127))
    ours, theirs = (np.einsum("gri,gij,grj->gr", off, second, off) for off in (weight - found, weight - nearest))
    assert (ours <= theirs * (1 + 1e-9)).all(), seed


def never_worse(round_: Round) -> None:
    for seed in range(30):
        check_never_worse(round_, seed, 6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(100, 10_000), length=st.integers(1, 90))
def test_no_row_loses_more_than_to_nearest(seed: int, length: int) -> None:
    check_never_worse(rounding.round_by_least_squares, seed, length)


RoundingClaim = Callable[[Round], None]
CLAIMS: tuple[RoundingClaim, ...] = (near_the_best, beats_nearest, keeps_nearest, never_worse)


def check_all(round_: Round) -> None:
    for claim in CLAIMS:
        claim(round_)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_rounding_by_least_squares(claim: RoundingClaim) -> None:
    claim(rounding.round_by_least_squares)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-= error[:, :, None] * upper", "+= error[:, :, None] * upper"),
        ("left[:, :, stop:] -= errors", "left[:, :, stop:] += errors"),
        ("cholesky(np.linalg.inv(inner)).swapaxes(1, 2)", "cholesky(inner).swapaxes(1, 2)"),
        ("np.clip(np.rint(weight), -LEVEL, LEVEL)", "np.rint(weight) * 1.0"),
        ("np.where(mean > 0, _DAMPING * mean, 1.0)", "0.0 * mean"),
        ("np.where(better[:, :, None], found, nearest)", "nearest"),
        ("np.put_along_axis(found, order[:, None, :], whole, axis=2)", "found[:] = whole"),
    ],
)
def test_breaking_the_rounding_is_noticed(old: str, new: str) -> None:
    text = Path(rounding.__file__).read_text()
    assert text.count(old) == 1
    broken = types.ModuleType("broken")
    exec(text.replace(old, new), broken.__dict__)  # the library's own text
    with pytest.raises((AssertionError, np.linalg.LinAlgError)):
        check_all(broken.round_by_least_squares)


def conv(g: Graph, **attributes: Any) -> str:
    kernel = attributes.pop("kernel")
    group = attributes.get("group", 1)
    channels = g.shapes["x"][1]
    weight = g.const(g.uneven(6, channels // group, *kernel, along=0))
    shape: tuple[Any, ...] = (None,) * (len(kernel) + 2)
    return g.node("Conv", ["x", weight], shape, **attributes)


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((4, 6, 7, 7), {"kernel": (3, 3), "pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ((4, 6, 9, 8), {"kernel": (2, 3), "dilations": [2, 1], "group": 3}),
        ((4, 6, 5, 5), {"kernel": (3, 3), "pads": [1] * 4, "group": 6}),
        ((4, 6, 11), {"kernel": (4,), "strides": [3]}),
        ((2, 4, 4, 3, 4), {"kernel": (2, 2, 2)}),
    ],
    ids=["strides_and_pads", "groups_and_dilations", "depthwise", "1d", "3d"],
)
def test_moments_say_what_a_change_of_weights_does_to_a_convolution(
    shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    g = Graph(0, shape, np.float32)
    result = conv(g, **attributes)
    check_moments(g.model(result), shape)


@pytest.mark.parametrize("kind", ["gemm", "transposed gemm", "matmul"])
def test_moments_say_what_a_change_of_weights_does_to_a_matrix_product(kind: str) -> None:
    shape = (5, 4, 7) if kind == "matmul" else (20, 7)
    g = Graph(0, shape, np.float32)
    result = g.matmul("x", 3) if kind == "matmul" else g.gemm("x", 3, transposed=kind.startswith("t"))
    check_moments(g.model(result), shape)


def check_moments(model: ir.Model, shape: tuple[int, ...]) -> None:
    """d' H d is the mean square of the layer's result with weights d and no bias, by the float64 interpreter."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) + 0.5
    ranges = calibrate(model, [{"x": x}], "minmax").ranges
    (pair,) = pairs_of(model, quantize(model, ranges).model)
    assert why_no_moments(pair) == ""
    ((_, found),) = moments_of(model, [pair], lambda: [{"x": x}], len(x))
    scale, zero = pair.source or (None, None)
    assert scale is not None
    held = (np.clip(np.rint(x / scale) + np.float32(zero), 0, 255) - np.float32(zero)) * scale
    node = model.graph[0]
    change = np.random.default_rng(1).standard_normal(pair.whole.shape).astype(np.float32)
    twin = model.clone()
    layer = twin.graph[0]
    for index in range(1, len(layer.inputs)):
        value = layer.inputs[index]
        assert value is not None
        assert value.const_value is not None
        array = change if index == 1 else np.zeros(tuple(value.const_value.shape.numpy()), np.float32)
        value.const_value = ir.Tensor(array, name=value.name)
    (result,) = Float64Runtime(twin, torch=False).run({"x": held}).values()
    axis = 1 if node.op_type == "Conv" else result.ndim - 1
    exact = np.square(result).mean(axis=tuple(each for each in range(result.ndim) if each != axis))
    grouped = by_group(node, change.astype(np.float64))
    assert grouped is not None
    flat = grouped.reshape(*grouped.shape[:2], -1)
    told = rounding.square_errors(flat, found.covariance(about_mean=False)).reshape(-1)
    np.testing.assert_allclose(told, exact, rtol=1e-5)


def test_a_rounded_file_holds_other_weights_on_the_same_grid() -> None:
    g = Graph(0, (16, 4, 6, 6), np.float32)
    first = g.node("Relu", [g.conv("x", 8, 3)], (16, 8, 6, 6))
    model = g.model(g.conv(first, 3, 3))
    x = inputs(0, 16, 36, 4).transpose(0, 2, 1).reshape(16, 4, 6, 6).astype(np.float32)
    ranges = calibrate(model, [{"x": x}], "minmax").ranges
    plain = quantize(model, ranges).model
    weights = round_weights(model, pairs_of(model, plain), lambda: [{"x": x}], 16)
    result = quantize(model, ranges, corrections=Corrections(weights)).model
    before, after = pairs_of(model, plain), pairs_of(model, result)
    assert len(before) == len(after) == len(weights) == 2
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.scale, other.scale)
        assert 0 < np.mean(one.whole != other.whole) < 0.6
        assert np.abs(one.whole.astype(int) - other.whole).max() <= 4


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_bias_that_widens_one_channel_s_grid_leaves_the_others_rounded(per_channel: bool) -> None:
    """A channel that training switched off: its grid follows its bias, and changes in the last digit with a shift."""
    g = Graph(0, (8, 4, 6, 6), np.float32)
    result = g.conv("x", 6, 3)
    model = g.model(result)
    node = next(node for node in model.graph if node.op_type == "Conv")
    weight = node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    numbers = weight.const_value.numpy().copy()
    numbers[2] *= 1e-12
    weight.const_value = ir.Tensor(numbers, name=weight.name)
    if not per_channel:
        model.graph.opset_imports[""] = 12
    x = inputs(0, 8, 36, 4).transpose(0, 2, 1).reshape(8, 4, 6, 6).astype(np.float32)
    ranges = calibrate(model, [{"x": x}], "minmax").ranges
    shift = np.zeros(6)
    add_to_bias(node, shift + 0.5, lambda name: name)
    plain = quantize(model, ranges).model
    weights = round_weights(model, pairs_of(model, plain), lambda: [{"x": x}], 8)
    shift[2] = 0.1
    corrections = Corrections(weights, {result: shift})
    (before,), (after,) = (
        pairs_of(model, each) for each in (plain, quantize(model, ranges, corrections=corrections).model)
    )
    (rounded,) = weights.values()
    np.testing.assert_array_equal(before.scale != after.scale, np.arange(6) == 2 if per_channel else False)
    others = np.arange(6) != 2
    np.testing.assert_array_equal(after.whole[others], rounded.whole[others])
    assert (before.whole != after.whole)[others].any()


@pytest.mark.parametrize("kind", ["conv", "matmul"])
def test_weights_are_rounded_for_the_errors_that_biases_leave(kind: str) -> None:
    """By the covariance about the mean, which a bias takes; MatMul has none, and its errors count about zero."""
    shape = (32, 6, 1, 1) if kind == "conv" else (32, 6)
    g = Graph(2, shape, np.float32)
    model = g.model(g.conv("x", 5) if kind == "conv" else g.matmul("x", 5))
    x = (inputs(1, 1, 32, 6)[0] + np.arange(6)).astype(np.float32)
    ranges = calibrate(model, [{"x": x.reshape(shape)}], "minmax").ranges
    (pair,) = pairs_of(model, quantize(model, ranges).model)
    (found,) = round_weights(model, [pair], lambda: [{"x": x.reshape(shape)}], 32).values()
    scale, zero = pair.source or (None, None)
    assert scale is not None
    held = ((np.clip(np.rint(x / scale) + np.float32(zero), 0, 255) - np.float32(zero)) * scale).astype(np.float64)
    covariance = np.cov(held.T, bias=True) if kind == "conv" else held.T @ held / len(held)
    weight = model.graph.initializers[str(pair.node.inputs[1].name)].const_value.numpy().astype(np.float64)
    rows = (weight / pair.grid).reshape(5, 6) if kind == "conv" else (weight / pair.grid).T
    whole = rounding.round_by_least_squares(rows[None], covariance[None])[0]
    assert (whole != np.rint(rows)).any()
    np.testing.assert_array_equal(found.whole.reshape(5, 6) if kind == "conv" else found.whole.T, whole)
    np.testing.assert_array_equal(found.scale, pair.scale)


def test_layers_that_can_not_be_rounded_so_say_why() -> None:
    g = Graph(0, (2, 4, 6, 6), np.float32)
    model = g.model(g.conv(g.transposed("x", 6), 3))
    x = inputs(0, 2, 36, 4).transpose(0, 2, 1).reshape(2, 4, 6, 6).astype(np.float32)
    pairs = pairs_of(model, quantize(model, calibrate(model, [{"x": x}], "minmax").ranges).model)
    assert [bool(why_no_moments(pair)) for pair in pairs] == [True, False]
    assert "is transposed" in why_no_moments(pairs[0])
    (name,) = round_weights(model, pairs, lambda: [{"x": x}], 2)
    assert name == pairs[1].node.inputs[1].name
