"""What combines numbers behind the last layer, as the decoding of a detector does, stays float32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.quantise import modules_of, quantize
from normexport.runtime import Float64Runtime, OnnxRuntime
from tests.folding.build import GraphBuilder

X = np.random.default_rng(0).normal(size=(16, 4, 8, 8)).astype(np.float32)


def detector(*, layer_behind: bool = False, residual: bool = False) -> ir.Model:
    """Boxes in pixels and scores between 0 and 1, in one output."""
    dice, graph = np.random.default_rng(1), GraphBuilder(np.float32)
    value = graph.input(("N", 4, 8, 8))
    first = graph.node("Conv", [value, graph.const(dice.normal(0, 0.3, (6, 4, 1, 1)))])
    if residual:
        second = graph.node("Conv", [first, graph.const(dice.normal(0, 0.3, (6, 6, 1, 1)))])
        first = graph.node("Add", [first, second])
    boxes, scores = (graph.node("Conv", [first, graph.const(dice.normal(0, 0.4, (rows, 6, 1, 1)))]) for rows in (4, 5))
    pixels = graph.node("Mul", [boxes, graph.const(np.array(100.0))])
    moved = graph.node("Add", [pixels, boxes])
    joined = graph.node("Concat", [moved, graph.node("Sigmoid", [scores])], axis=1)
    result = graph.node("Conv", [joined, graph.const(dice.normal(size=(2, 9, 1, 1)))]) if layer_behind else joined
    graph.output(result)
    return ir.from_proto(graph.model())


def snr(exact: np.ndarray, found: np.ndarray) -> float:
    signal = np.square(exact - exact.mean(axis=0)).sum()
    return float(10 * np.log10(signal / np.square(found - exact).sum()))


def quantised_operands(model: ir.Model, operator: str) -> list[bool]:
    nodes = [node for node in model.graph if node.op_type == operator]
    makers = [value.producer() for node in nodes for value in node.inputs if value is not None]
    return [maker is not None and maker.op_type == "DequantizeLinear" for maker in makers]


@pytest.mark.parametrize("symmetric", [False, True])
def test_scores_beside_boxes_are_as_good_as_their_layer(symmetric: bool) -> None:
    model = detector()
    ranges = calibrate(model, [{"x": X}], "minmax", symmetric=symmetric).ranges
    found = quantize(model, ranges, symmetric=symmetric).model
    (exact,) = Float64Runtime(model, torch=False).run({"x": X}).values()
    (result,) = OnnxRuntime(found).run({"x": X}).values()
    assert snr(exact[:, :4], result[:, :4]) > 30
    assert snr(exact[:, 4:], result[:, 4:]) > 30  # one range with the boxes: below 0
    assert quantised_operands(found, "Conv").count(True) == 6  # three layers, of which each has both
    assert not all(quantised_operands(found, "Concat"))


def test_what_a_layer_reads_further_down_is_in_int8_as_ever() -> None:
    model = detector(layer_behind=True)
    found = quantize(model, calibrate(model, [{"x": X}], "minmax").ranges).model
    assert all(quantised_operands(found, "Concat"))
    assert all(quantised_operands(found, "Conv"))


def test_residual_additions_between_layers_are_in_int8_as_ever() -> None:
    model = detector(residual=True)
    found = quantize(model, calibrate(model, [{"x": X}], "minmax").ranges).model
    first, last = quantised_operands(found, "Add")[:2], quantised_operands(found, "Add")[2:]
    assert all(first)
    assert not all(last)


def test_behind_layers_left_in_float32_nothing_is_in_int8() -> None:
    model = detector(residual=True)
    ranges = calibrate(model, [{"x": X}], "minmax").ranges
    found = quantize(model, ranges, exclude=modules_of(model)).model
    assert not [node for node in found.graph if node.op_type == "QuantizeLinear"]
