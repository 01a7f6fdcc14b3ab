"""What a node that is a per-channel map computes, whatever it was written as.

`BatchNormalization` at inference: y = (x - mean)/sqrt(var + epsilon)*scale + B, channels on axis 1.
`normexport::RunningNorm`: (X, mean, inv_scale, scale, bias) with constant statistics, each (C,).
Raw steps: Sub, Mul, Div, Add of a tensor and a constant, either way round (but not c / x), Neg, Sum of a
tensor and constants, and Einsum with a vector. A constant is per channel if its numbers differ along one axis only, and
its channels lie where broadcasting puts that axis: (C, 1, 1) beside
(N, C, H, W) on axis 1, (C,) beside (N, H, W, C) on axis 3. The axis decides, never the size: (C,) beside (N, C, H, W)
runs along W, also where W happens to equal C.
Nodes that change nothing (`no_ops`) are steps of scale 1 and shift 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.dtypes import of_onnx
from normexport.folding.einsum import read_scale
from normexport.folding.graph import Draft
from normexport.folding.no_ops import is_no_op
from normexport.folding.operands import operands, read_operand
from normexport.folding.per_channel import PerChannel
from normexport.graphs.nodes import label, op, required
from normexport.graphs.refusal import Refuse
from normexport.norms import AffineParams

_EPSILON = float(np.float32(1e-5))  # the attribute is a float32, and so is its default


@dataclass(frozen=True, eq=False)
class Link:
    """`node` computes map(input `data`).

    kind: "l1", ..., "batchnorm" for a node that is a norm by itself, "chain" for one step of a raw chain.
    counts: whether it makes a chain a norm. Lone additions are biases, lone scalars are arithmetic.
    """

    node: ir.Node
    data: int
    map: PerChannel
    kind: str
    counts: bool = True

    @property
    def input(self) -> ir.Value:
        """The value it reads."""
        value = self.node.inputs[self.data]
        assert value is not None
        return value

    @property
    def output(self) -> ir.Value:
        """The value it makes."""
        return self.node.outputs[0]


def read_batchnorm(node: ir.Node, draft: Draft) -> Link:
    """The node as a map: A = scale/sqrt(var + epsilon), B = bias - mean*A.

    Raises:
        Refuse: batch statistics (training mode), statistics per position (`spatial=0` of opset 7 and 8), inputs
            that are not constant, or an operator set older than 7.
    """
    if draft.opset < 7:
        raise Refuse(f"opset {draft.opset} is older than 7; convert the file to a newer opset first")
    # Before opset 14 a node was in training mode if it also gave its new running statistics.
    if node.attributes.get_int("training_mode", 0) or any(each.name for each in node.outputs[1:]):
        raise Refuse(f"{label(node)} is in training mode: its statistics are those of the batch, at inference")
    if not node.attributes.get_int("spatial", 1):
        raise Refuse(f"{label(node)} has spatial=0: its statistics are per position, not per channel")
    required(node, 0)
    scale, bias, mean, variance = (draft.constants.array(required(node, i)) for i in range(1, 5))
    if scale.ndim != 1 or len({scale.shape, bias.shape, mean.shape, variance.shape}) != 1:
        raise Refuse(f"the parameters of {label(node)} have different lengths, or more than one axis")
    a = scale / np.sqrt(variance + node.attributes.get_float("epsilon", _EPSILON))
    return Link(node, 0, PerChannel.of(a, bias - mean * a), "batchnorm")


def read_running(node: ir.Node, draft: Draft) -> Link:
    """The node as a map: A = scale*inv_scale, B = bias - mean*A.

    Raises:
        Refuse: a statistic is not constant, or the four disagree on C.
    """
    required(node, 0)
    values = [draft.constants.array(required(node, index)) for index in range(1, 5)]
    try:
        params = AffineParams.of(*values)
    except ValueError as error:
        raise Refuse(f"{label(node)}: {error}") from error
    kind = node.attributes.get_string("kind", "") or "running"
    return Link(node, 0, PerChannel.of(*params.coefficients()), kind)


def read_chain(node: ir.Node, draft: Draft) -> Link | None:
    """The node as a map, None where it is not a step of a per-channel chain."""
    if is_no_op(node, draft):
        return Link(node, 0, PerChannel.of(1.0, 0.0), "chain", counts=False)
    if op(node) == "Neg" and _is_float(required(node, 0), draft):
        return Link(node, 0, PerChannel.of(-1.0, 0.0), "chain", counts=False)
    if op(node) == "Einsum":
        scale = read_scale(node, draft)
        if scale is None:
            return None
        counts = len(scale.values) > 1
        return Link(node, scale.data, PerChannel.of(scale.values, 0.0, scale.axis), "chain", counts)
    if op(node) == "Sum" and len(node.inputs) > 2:
        return _read_sum(node, draft)
    found = operands(node, draft)
    if found is None:
        return None
    values, data_first = found.values, found.data == 0
    one, zero = np.ones_like(values), np.zeros_like(values)
    if op(node) in ("Add", "Sum"):
        a, b = one, values
    elif op(node) == "Sub":
        a, b = (one, -values) if data_first else (-one, values)
    elif op(node) == "Mul":
        a, b = values, zero
    else:
        a, b = 1.0 / values, zero
    counts = found.per_channel and op(node) not in ("Add", "Sum")
    return Link(node, found.data, PerChannel.of(a, b, found.axis), "chain", counts)


def _read_sum(node: ir.Node, draft: Draft) -> Link | None:
    """A Sum of one tensor and several constants."""
    places = [place for place, value in enumerate(node.inputs) if value not in draft.constants]
    if len(places) != 1:
        return None
    data, map = places[0], PerChannel.of(1.0, 0.0)
    for place in range(len(node.inputs)):
        if place == data:
            continue
        found = read_operand(node, place, data, draft)
        if found is None or not (found.lies_on(map.axis) or map.channels == 1):
            return None
        map = map.then(PerChannel.of(1.0, found.values, found.axis))
    return Link(node, data, map, "chain", counts=False)


def _is_float(value: ir.Value, draft: Draft) -> bool:
    dtype = draft.shapes.dtype(value)
    return dtype is not None and of_onnx(dtype) is not None
