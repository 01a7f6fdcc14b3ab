"""What a node that is a per-channel map computes, whatever it was written as.

`BatchNormalization` at inference: y = (x - mean)/sqrt(var + epsilon)*scale + B, channels on axis 1.
`normexport::RunningNorm`: (X, mean, inv_scale, scale, bias) with constant statistics, each (C,).
Raw steps: Sub, Mul, Div, Add of a tensor and a constant, either way round (but not c / x), and Neg. A constant is per
channel if it has only one axis longer than 1, and its channels lie where broadcasting puts that axis: (C, 1, 1) beside
(N, C, H, W) on axis 1, (C,) beside (N, H, W, C) on axis 3. The axis decides, never the size: (C,) beside (N, C, H, W)
runs along W, also where W happens to equal C. One value per sample (axis 0) is no channel.
Nodes that change nothing (`no_ops`) are steps of scale 1 and shift 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.dtypes import of_onnx
from normexport.folding.allowance import TooLarge
from normexport.folding.graph import Draft
from normexport.folding.no_ops import is_no_op
from normexport.folding.per_channel import PerChannel, Vector
from normexport.graphs.nodes import label, op, required
from normexport.graphs.refusal import Refuse
from normexport.norms import AffineParams

OPERATORS = ("Add", "Div", "Mul", "Sub")
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


@dataclass(frozen=True, eq=False)
class Operands:
    """Which input is the tensor and which the constant; its values (C,) or (1,), their axis, and whether they count."""

    data: int
    constant: int
    values: Vector
    axis: int
    per_channel: bool

    def lies_on(self, axis: int) -> bool:
        """Whether the values are those of this axis, or one for all."""
        return len(self.values) == 1 or self.axis == axis


def read_chain(node: ir.Node, draft: Draft) -> Link | None:
    """The node as a map, None where it is not a step of a per-channel chain."""
    if is_no_op(node, draft):
        return Link(node, 0, PerChannel.of(1.0, 0.0), "chain", counts=False)
    if op(node) == "Neg" and _is_float(required(node, 0), draft):
        return Link(node, 0, PerChannel.of(-1.0, 0.0), "chain", counts=False)
    found = operands(node, draft)
    if found is None:
        return None
    values, data_first = found.values, found.data == 0
    one, zero = np.ones_like(values), np.zeros_like(values)
    if op(node) == "Add":
        a, b = one, values
    elif op(node) == "Sub":
        a, b = (one, -values) if data_first else (-one, values)
    elif op(node) == "Mul":
        a, b = values, zero
    else:
        a, b = 1.0 / values, zero
    counts = found.per_channel and op(node) != "Add"
    return Link(node, found.data, PerChannel.of(a, b, found.axis), "chain", counts)


def operands(node: ir.Node, draft: Draft) -> Operands | None:
    """The operands of one step; None where neither or both are constant, or the constant is not per channel.

    Raises:
        Refuse: the constant has the form of one value per channel, but the tensor's rank or channel count is not known.
    """
    if op(node) not in OPERATORS or draft.opset < 7 or len(node.inputs) != 2:
        return None
    constant = [value in draft.constants for value in node.inputs]
    if not any(constant):
        _refuse_uncomputed(node, draft)
    if constant[0] == constant[1] or (constant[0] and op(node) == "Div"):
        return None
    index = 0 if constant[0] else 1
    data, value = node.inputs[1 - index], node.inputs[index]
    if data is None or value is None:
        return None
    shape = _constant_shape(value, draft)
    if shape is None or 0 in shape or sum(size != 1 for size in shape) > 1:
        return None
    rank = draft.shapes.rank(data)
    if rank is None:
        _refuse_unknown(node, data, value, shape, "rank")
        return None
    aligned = (1,) * (rank - len(shape)) + shape
    if len(aligned) != rank or rank < 2 or aligned[0] != 1:
        return None
    axis = next((axis for axis, size in enumerate(aligned) if size != 1), 1)
    channels = draft.shapes.size(data, axis)
    if aligned[axis] > 1 and channels is None:
        _refuse_unknown(node, data, value, shape, "channel count")
        return None
    if aligned[axis] not in (1, channels):
        return None  # a single channel that the constant broadcasts to many
    values = draft.constants.array(value)
    if values.dtype.kind != "f":
        return None
    counts = aligned[axis] > 1 or (channels == 1 and len(shape) >= rank - 1)
    return Operands(1 - index, index, values.reshape(-1), axis, counts)


def _is_float(value: ir.Value, draft: Draft) -> bool:
    dtype = draft.shapes.dtype(value)
    return dtype is not None and of_onnx(dtype) is not None


def _constant_shape(value: ir.Value, draft: Draft) -> tuple[int, ...] | None:
    # A stored constant tells its shape without being read: this also meets large weights.
    if value.is_initializer() and value.const_value is not None:
        return tuple(size if isinstance(size, int) else 0 for size in value.const_value.shape)
    if value.shape is not None and sum(size != 1 for size in value.shape) > 1:
        return None  # no vector, and so not worth computing
    try:
        return draft.constants.array(value).shape
    except TooLarge:
        raise  # a limit that was met is told
    except Refuse:
        if _looks_per_channel(draft.shapes.of(value)):
            raise
        return None


def _looks_per_channel(sizes: Sequence[int | None] | None) -> bool:
    return sizes is not None and sum(size != 1 for size in sizes) == 1 and None not in sizes


def _refuse_uncomputed(node: ir.Node, draft: Draft) -> None:
    """Tell of an operand that is the same at every inference, one number per channel, and is not evaluated."""
    for value in node.inputs:
        if value is None or op(node) == "Add" or not draft.constants.is_fixed(value):
            continue
        if _looks_per_channel(draft.shapes.of(value)):
            raise Refuse(f"{label(node)}: {draft.constants.why_not(value)}")


def _refuse_unknown(node: ir.Node, data: ir.Value, value: ir.Value, shape: tuple[int, ...], what: str) -> None:
    looks_per_channel = max(shape, default=1) > 1 and (len(shape) > 2 or what == "channel count")
    if looks_per_channel and op(node) != "Add":
        raise Refuse(
            f"{label(node)} with '{value.name}' {shape} looks like one value per channel, but the {what} of "
            f"'{data.name}' is unknown"
        )
