"""Claims about biases corrected by norms alone, which broken copies of the library must not hold.

Where every channel of the input is one number, what rounding a weight takes from the mean is known to the last digit:
PyTorch computes both layers in float64, borders and all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional as F

from normexport.graphs.shapes import Shapes
from normexport.precision.int8.bias_by_norms import mean_errors_by_norms, why_no_mean
from normexport.precision.int8.corrections import Pair, pairs_of
from normexport.precision.int8.propagate import Origin, Tensor
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.spreads import NODES, Spread
from tests.folding.build import GraphBuilder

CHANNELS = 6
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "depthwise": {"group": CHANNELS, "pads": [1, 1, 1, 1]},
    "grouped": {"group": 2, "pads": [0, 1, 2, 1]},
    "strided": {"strides": [2, 3], "pads": [1, 1, 1, 1]},
    "dilated": {"dilations": [2, 1], "pads": [2, 2, 1, 1]},
}


def layer(kind: str, seed: int = 0) -> tuple[ir.Model, np.ndarray]:
    """A layer with a weight of 3 by 3 that reads x (2, 6, 7, 8), and the weight."""
    dice, graph = np.random.default_rng(seed), GraphBuilder(np.float32)
    keywords = KINDS.get(kind, {})
    x = graph.input((2, CHANNELS) if kind == "gemm" else (2, CHANNELS, 7, 8))
    if kind == "gemm":
        weight = dice.normal(size=(CHANNELS, 5))
        graph.output(graph.node("Gemm", [x, graph.const(weight), graph.const(np.zeros(5))]))
    elif kind == "transposed":
        weight = dice.normal(size=(CHANNELS, 4, 2, 3))
        graph.output(graph.node("ConvTranspose", [x, graph.const(weight)], strides=[2, 3]))
    else:
        weight = dice.normal(size=(12, CHANNELS // keywords.get("group", 1), 3, 3))
        graph.output(graph.node("Conv", [x, graph.const(weight)], **keywords))
    return ir.from_proto(graph.model()), weight


def by_pytorch(kind: str, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The mean of each channel in float64."""
    given, held = torch.from_numpy(x.astype(np.float64)), torch.from_numpy(weight.astype(np.float64))
    keywords = dict(KINDS.get(kind, {}))
    if kind == "gemm":
        return (given @ held).mean(0).numpy()
    if kind == "transposed":
        return F.conv_transpose2d(given, held, stride=(2, 3)).mean((0, 2, 3)).numpy()
    top, left, bottom, right = keywords.pop("pads", [0] * 4)
    padded = F.pad(given, (left, right, top, bottom))
    steps, gaps = keywords.get("strides", [1, 1]), keywords.get("dilations", [1, 1])
    found = F.conv2d(padded, held, stride=tuple(steps), dilation=tuple(gaps), groups=keywords.get("group", 1))
    return found.mean((0, 2, 3)).numpy()


def quantised(model: ir.Model) -> Pair:
    (name,) = (str(value.name) for value in model.graph.inputs)
    (pair,) = pairs_of(model, quantize(model, {name: (-1.0, 4.0)}).model)
    return pair


def told(model: ir.Model, points: np.ndarray, origin: Origin = "norm") -> dict[str, Tensor]:
    return {str(model.graph.inputs[0].name): Tensor(Spread(points), origin)}


def check_numbers(kind: str, seed: int = 0) -> None:
    """One number a channel."""
    model, weight = layer(kind, seed)
    pair = quantised(model)
    numbers = np.random.default_rng(seed + 1).uniform(-0.5, 5.0, CHANNELS)
    found = mean_errors_by_norms(Shapes(model), [pair], told(model, np.repeat(numbers[:, None], len(NODES), axis=1)))
    sizes = model.graph.inputs[0].shape
    assert sizes is not None
    x = np.broadcast_to(numbers.reshape(1, -1, *(1,) * (len(sizes) - 2)), sizes.numpy())
    exact = by_pytorch(kind, x, weight.astype(np.float32)) - by_pytorch(kind, x, pair.rounded_weight)
    assert np.abs(exact).max() > 1e-3
    np.testing.assert_allclose(found[pair.result], exact, rtol=1e-9, atol=1e-12)


def numbers_of_every_kind() -> None:
    for seed, kind in enumerate((*KINDS, "gemm", "transposed")):
        check_numbers(kind, seed)


def spreads_against_drawn_numbers() -> None:
    """Numbers drawn from a spread, 200,000 of each channel: a layer of one tap, so that places do not matter."""
    graph, dice = GraphBuilder(np.float32), np.random.default_rng(3)
    weight = dice.normal(size=(5, CHANNELS, 1, 1))
    graph.output(graph.node("Conv", [graph.input((1, CHANNELS, 400, 500)), graph.const(weight)]))
    model = ir.from_proto(graph.model())
    pair = quantised(model)
    points = np.maximum(dice.normal(0.5, 0.5, (CHANNELS, 1)) + dice.uniform(0.5, 2.0, (CHANNELS, 1)) * NODES, 0.0)
    found = mean_errors_by_norms(Shapes(model), [pair], told(model, points))[pair.result]
    places = np.clip(dice.normal(size=(CHANNELS, 200_000)), -5, 5)
    x = np.stack([np.interp(row, NODES, own) for row, own in zip(places, points, strict=True)])
    exact = (weight.astype(np.float32) - pair.rounded_weight)[:, :, 0, 0] @ x.mean(axis=1)
    np.testing.assert_allclose(found, exact, atol=0.02 * np.abs(exact).max())


def what_is_not_told_is_left_alone() -> None:
    model, _ = layer("plain")
    pair = quantised(model)
    points = np.ones((CHANNELS, len(NODES)))
    for tensors in ({}, told(model, points, "bound")):
        assert "no norm tells the mean of what Conv" in why_no_mean(pair, tensors)
        assert mean_errors_by_norms(Shapes(model), [pair], tensors) == {}


def channels_that_are_not_known_apart() -> None:
    """A spread of one channel, or of as many as no layer reads: each channel is like all of them."""
    model, _ = layer("depthwise")
    pair = quantised(model)
    whole = mean_errors_by_norms(Shapes(model), [pair], told(model, np.full((1, len(NODES)), 1.3)))
    others = mean_errors_by_norms(Shapes(model), [pair], told(model, np.full((4, len(NODES)), 1.3)))
    each = mean_errors_by_norms(Shapes(model), [pair], told(model, np.full((CHANNELS, len(NODES)), 1.3)))
    np.testing.assert_allclose(whole[pair.result], each[pair.result], rtol=1e-9)
    np.testing.assert_allclose(others[pair.result], each[pair.result], rtol=1e-9)


def errors_of_a_hundredth_of_a_deviation_count() -> None:
    model, _ = layer("depthwise")
    pair = quantised(model)
    numbers = told(model, np.full((CHANNELS, len(NODES)), 1.3))
    (error,) = mean_errors_by_norms(Shapes(model), [pair], numbers).values()
    size = float(np.sqrt(np.square(error).mean()))
    unit = NODES / np.sqrt(Spread(NODES[None]).variance)
    for times, kept in ((100.0, True), (200.0, False)):
        result = {pair.result: Tensor(Spread(times * size * unit[None]), "norm")}
        assert bool(mean_errors_by_norms(Shapes(model), [pair], numbers | result)) == kept


def neighbours_are_alike() -> None:
    """The largest of nine side by side: that of three independent numbers."""
    dice = np.random.default_rng(5)
    found = Spread(NODES[None]).largest_of(9)
    exact = dice.normal(size=(400_000, 3)).max(axis=1)
    np.testing.assert_allclose(found.mean, exact.mean(), atol=0.01)
    np.testing.assert_allclose(found.variance, exact.var(), atol=0.02)


CLAIMS = (
    neighbours_are_alike,
    errors_of_a_hundredth_of_a_deviation_count,
    numbers_of_every_kind,
    spreads_against_drawn_numbers,
    what_is_not_told_is_left_alone,
    channels_that_are_not_known_apart,
)
