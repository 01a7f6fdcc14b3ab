"""Spreads: functions against the ONNX reference, pools, sums and layers against drawn numbers (PyTorch's layers)."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from examples import data
from normexport.folding.constants import Constants
from normexport.folding.moments import moments_of_norms
from normexport.graphs.moments import Moments
from normexport.norms import KINDS
from normexport.precision.int8.propagate import Tensor, propagate
from normexport.precision.int8.spread_functions import FUNCTIONS
from normexport.precision.int8.spreads import NODES, TAILS, WEIGHTS, Spread, spread_at, spread_of
from tests.folding.build import GraphBuilder

RNG = np.random.default_rng(11)
OPSETS = {"Swish": 24, "Gelu": 20}
SHARES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_functions_are_those_of_onnx(name: str, alpha: float | None) -> None:
    takes_alpha = name in ("LeakyRelu", "Elu", "Selu", "Celu", "HardSigmoid")
    attributes: dict[str, Any] = {} if alpha is None or not takes_alpha else {"alpha": alpha}
    node = helper.make_node(name, ["x"], ["y"], **attributes)
    infos = [helper.make_tensor_value_info(each, TensorProto.DOUBLE, [None]) for each in ("x", "y")]
    opset = OPSETS.get(name, 22)
    model = helper.make_model(
        helper.make_graph([node], "g", infos[:1], infos[1:]), opset_imports=[helper.make_opsetid("", opset)]
    )
    x = np.linspace(0.0 if name == "Sqrt" else -7.0, 7.0, 57)
    results: Any = ReferenceEvaluator(model).run(None, {"x": x})
    expected = results[0]
    found = FUNCTIONS[name](ir.from_proto(model).graph.node(0), x)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def quantiles(spread: Spread, shares: tuple[float, ...] = SHARES) -> np.ndarray:
    """By the weights of the points, not by their places."""
    rows = []
    for row in spread.points:
        order = np.argsort(row)
        below = np.cumsum(WEIGHTS[order])
        rows.append(np.interp(shares, below - WEIGHTS[order] / 2, row[order]))
    return np.array(rows)


def drawn(tails: str, count: int) -> np.ndarray:
    """Numbers of the tails: quantiles at places of normal numbers."""
    return np.interp(np.clip(RNG.normal(size=count), -5, 5), NODES, TAILS[tails])


def run(graph: GraphBuilder, known: dict[str, Moments], **inputs: Spread) -> dict[str, Tensor]:
    return propagate(ir.from_proto(graph.model()), known, inputs)


@pytest.mark.parametrize("tails", sorted(TAILS))
def test_tails_have_mean_0_and_deviation_1(tails: str) -> None:
    spread = spread_of(np.array([2.0]), np.array([3.0]), tails=tails)
    np.testing.assert_allclose(spread.mean, 2.0, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(spread.variance), 3.0, rtol=0.02)


def test_tails_are_ever_heavier() -> None:
    ends = [TAILS[each][-1] for each in ("light", "middle", "heavy", "sparse")]
    assert ends == sorted(ends)
    assert ends[0] > 5.0


def test_a_sum_of_independent_tensors_is_their_convolution() -> None:
    first, second = spread_of(np.array([1.0]), np.array([2.0])), spread_of(np.array([-3.0]), np.array([1.0]))
    sums = 1 + 2 * drawn("heavy", 400_000) - 3 + drawn("heavy", 400_000)
    found = quantiles(first.joined(second, np.add))[0]
    np.testing.assert_allclose(found, np.quantile(sums, SHARES), atol=0.3)  # of 31 points for each: 2 % of its range


def test_what_comes_of_one_tensor_moves_together() -> None:
    """x * sigmoid(x), written as two nodes, against numbers; as if independent it would fall below -1."""
    graph = GraphBuilder(np.float32)
    x = graph.input(("N", 1, "L"))
    y = graph.node("Mul", [x, graph.node("Sigmoid", [x])])
    graph.output(y)
    moments = Moments.of([0.5], [2.0], kind="l1")
    assert moments is not None
    found = run(graph, {"x": moments}, x=spread_at(moments))
    values = 0.5 + 2 * drawn("heavy", 400_000)
    expected = values / (1 + np.exp(-values))
    np.testing.assert_allclose(quantiles(found[y].spread)[0], np.quantile(expected, SHARES), atol=0.06)
    assert found[y].spread.points.min() > -0.3


def test_the_largest_of_sixteen_side_by_side_is_that_of_four_independent_ones() -> None:
    spread = spread_of(np.array([0.0, 1.0]), np.array([1.0, 2.0]), tails="middle")
    largest = drawn("middle", 4 * 200_000).reshape(4, -1).max(axis=0)
    found = quantiles(spread.largest_of(16))
    np.testing.assert_allclose(found[0], np.quantile(largest, SHARES), atol=0.06)
    np.testing.assert_allclose(found[1], 1 + 2 * np.quantile(largest, SHARES), atol=0.12)


def test_a_mean_stays_within_the_bounds_of_its_numbers() -> None:
    positive = spread_of(np.array([0.1]), np.array([1.0])).map(lambda points: np.maximum(points, 0.0))
    found = positive.mean_of(49)
    assert found.points.min() >= 0.0
    assert found.points.max() <= positive.points.max()
    assert found.variance < positive.variance


@given(mean=st.floats(-3, 3), std=st.floats(0.1, 5), tails=st.sampled_from(sorted(TAILS)), count=st.integers(1, 400))
def test_a_mean_has_the_shape_of_its_numbers(mean: float, std: float, tails: str, count: int) -> None:
    """Skewness and kurtosis, which scaling about the mean leaves alone; behind a ReLU far from those of Laplace."""
    rectified = spread_of(np.array([mean]), np.array([std]), tails=tails).map(lambda points: np.maximum(points, 0.0))
    found = rectified.mean_of(count)
    np.testing.assert_allclose(found.mean, rectified.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.variance * count**0.15, rectified.variance, rtol=1e-9, atol=1e-12)
    for power in (3, 4):
        before, after = (moment(each, power) for each in (rectified, found))
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)


def moment(spread: Spread, power: int) -> Any:
    """Of the numbers less their mean, in standard deviations."""
    off = (spread.points - spread.mean[:, None]) / np.sqrt(spread.variance + 1e-30)[:, None]
    return off**power @ WEIGHTS


@pytest.mark.parametrize("side", [2, 4, 7])
def test_means_of_what_a_filter_finds_in_real_digits_lie_within_what_is_taken(side: int) -> None:
    """Filters that sum to zero, as edges have, behind a ReLU and averaged over squares, from how single places lie."""
    pixels = torch.from_numpy(data.load()[1].input[:200])
    weights = np.random.default_rng(side).normal(size=(16, 1, 5, 5))
    filters = torch.from_numpy((weights - weights.mean(axis=(2, 3), keepdims=True)).astype(np.float32))
    found = torch.relu(torch.nn.functional.conv2d(pixels, filters, padding=2))
    pooled = torch.nn.functional.avg_pool2d(found, side).numpy()
    rows = found.numpy().swapaxes(0, 1).reshape(16, -1).astype(np.float64)
    below = np.array([NormalDist().cdf(place) for place in NODES])
    taken = Spread(np.quantile(rows, below, axis=1).T).mean_of(side * side)
    rows = pooled.swapaxes(0, 1).reshape(16, -1).astype(np.float64)
    assert (rows.max(axis=1) <= taken.points.max(axis=1)).all()
    assert 0.9 < np.median(np.sqrt(taken.variance) / rows.std(axis=1)) < 2.0


def test_the_statistic_of_an_extreme_ends_its_distribution() -> None:
    moments = Moments.of([1.0], [0.5], kind="linf")
    assert moments is not None
    assert spread_at(moments).points.max() == pytest.approx(1.0 + 0.5 * KINDS["linf"].per_std * KINDS["linf"].extreme)
    assert np.ptp(spread_at(moments).points) < np.ptp(spread_of(np.array([1.0]), np.array([0.5])).points)


@pytest.mark.parametrize("operator", ["L1InstanceNorm", "InstanceNormalization", "L1BatchNorm", "L1GroupNorm"])
def test_each_channel_of_a_sample_by_itself_has_sparse_tails(operator: str) -> None:
    """|x| of it is a power of an exponential number, which a Weibull distribution of shape 2/3 is."""
    graph = GraphBuilder(np.float32)
    x, affine = graph.input(("N", 2, 8, 8)), [graph.const(np.array(each)) for each in ([3.0, 1.0], [0.5, -1.0])]
    own = operator.startswith("L1")
    y = graph.node(operator, [x, *affine], domain="normexport" if own else "")
    graph.output(y)
    model = ir.from_proto(graph.model())
    known = moments_of_norms(model.graph, Constants(model.graph))[y]
    alone = operator in ("L1InstanceNorm", "InstanceNormalization")
    assert known.per_sample == alone
    spread = spread_at(known)
    drawn = RNG.weibull(2 / 3, 400_000) * RNG.choice([-1.0, 1.0], 400_000) / np.sqrt(6.0)
    sparse = known.mean[:, None] + known.std[:, None] * np.quantile(drawn, SHARES)
    assert np.allclose(quantiles(spread), sparse, rtol=0.04, atol=0.1) == alone


LAYERS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "Conv": torch.nn.functional.conv2d,
    "ConvTranspose": torch.nn.functional.conv_transpose2d,
    "Gemm": torch.matmul,
    "MatMul": torch.matmul,
}


@pytest.mark.parametrize("operator", LAYERS)
def test_a_layer_s_mean_is_exact_and_its_deviation_allows_for_aligned_weights(operator: str) -> None:
    """Independent inputs give half the variance that is taken for trained ones."""
    mean, std = np.array([1.0, -2.0, 0.5]), np.array([1.0, 0.3, 2.0])
    graph, shape = GraphBuilder(np.float64), {"Conv": ("N", 3, 9, 9), "ConvTranspose": ("N", 3, 9, 9)}
    x = graph.input(shape.get(operator, ("N", 3)))
    size = {"Conv": (4, 3, 3, 3), "ConvTranspose": (3, 4, 3, 3)}.get(operator, (3, 4))
    weight = RNG.normal(size=size)
    y = graph.node(operator, [x, graph.const(weight)])
    graph.output(y)
    model = ir.from_proto(graph.model())
    data = RNG.normal(size=(2000, 3, *(shape.get(operator, ())[2:])))
    data = data * std.reshape(1, 3, *(1,) * (data.ndim - 2)) + mean.reshape(1, 3, *(1,) * (data.ndim - 2))
    result = LAYERS[operator](torch.from_numpy(data), torch.from_numpy(weight)).numpy()
    inner = result[:, :, 2:-2, 2:-2] if result.ndim == 4 else result
    rows = np.moveaxis(inner, 1, 0).reshape(4, -1)
    found = propagate(model, {}, {"x": spread_of(mean, std, tails="light")})[y].spread
    np.testing.assert_allclose(found.mean, rows.mean(axis=1), atol=0.25)
    np.testing.assert_allclose(found.variance, 2 * rows.var(axis=1), rtol=0.15)


def test_channels_keep_their_own_spread_through_concat_flatten_and_transpose() -> None:
    graph = GraphBuilder(np.float32)
    x, y = graph.input(("N", 2, 3, 3)), graph.input(("N", 1, 3, 3), "y")
    joined = graph.node("Concat", [x, y], axis=1)
    flat = graph.node("Flatten", [joined])
    moved = graph.node("Transpose", [joined], perm=[0, 2, 3, 1])
    graph.output(flat, moved)
    first = spread_of(np.array([1.0, 5.0]), np.array([0.1, 0.2]))
    found = run(graph, {}, x=first, y=spread_of(np.array([-9.0]), np.array([0.3])))
    np.testing.assert_allclose(found[joined].spread.mean, [1.0, 5.0, -9.0], atol=1e-6)
    np.testing.assert_allclose(found[flat].spread.mean, np.repeat([1.0, 5.0, -9.0], 9), atol=1e-6)
    assert found[moved].spread.axis == 3


@pytest.mark.parametrize("case", ["attention", "unknown operator", "three operands", "constant in space"])
def test_what_is_not_known_is_left_out(case: str) -> None:
    graph = GraphBuilder(np.float32)
    x = graph.input(("N", 2, 4, 4))
    made: dict[str, Any] = {
        "attention": lambda: graph.node("MatMul", [x, x]),
        "unknown operator": lambda: graph.node("Det", [x]),
        "three operands": lambda: graph.node("Sum", [x, x, x]),
        "constant in space": lambda: graph.node("Add", [x, graph.const(RNG.normal(size=(1, 1, 4, 4)))]),
    }
    value = made[case]()
    last = graph.node("Relu", [value])
    graph.output(last)
    found = run(graph, {}, x=spread_of(np.zeros(2), np.ones(2)))
    assert value not in found
    assert last not in found


def test_the_mixture_of_a_tensor_has_the_shares_of_its_channels() -> None:
    spread = spread_of(np.array([0.0, 10.0]), np.array([1.0, 1.0]), tails="light")
    centres, counts = spread.histogram().bins()
    assert counts[centres > 5].sum() / counts.sum() == pytest.approx(0.5, abs=1e-3)
    assert (centres * counts).sum() / counts.sum() == pytest.approx(5.0, abs=1e-2)
    np.testing.assert_allclose(quantiles(spread.mixed(), (0.25, 0.75))[0], [0.0, 10.0], atol=0.05)
