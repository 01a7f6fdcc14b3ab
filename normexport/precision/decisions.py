"""What a graph says of its outputs: along which axes their channels lie, and which scores an index was chosen by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOATS, onnx_numbers
from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes
from normexport.runtime import Array

_FLOATING = (None, *onnx_numbers(FLOATS))  # None: the file does not say
#: Results of these lie at the same place as what they read, so channels do too.
_ELEMENTWISE = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Exp", "Log", "Sqrt", "Erf", "Abs", "Neg", "Clip", "Where", "Cast"),
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Swish"),
    *("Mish", "Tanh", "Softplus", "Softsign", "Softmax", "LogSoftmax", "Identity", "Dropout"),
    *("QuantizeLinear", "DequantizeLinear"),
}
_CHANNELS_FIRST = {
    *("Conv", "ConvTranspose", "QLinearConv", "ConvInteger", "Resize", "Upsample", "DepthToSpace", "SpaceToDepth"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization"),
}
_CHANNELS_LAST = {
    *("MatMul", "Gemm", "QLinearMatMul", "MatMulInteger", "LayerNormalization", "RMSNormalization", "Gather"),
}
#: What leaves whole numbers in their order.
_SHAPE_ONLY = ("Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Cast")
#: What makes numbers between 0 and 1 of numbers of any size, and what leaves these as they are.
_SHARES, _MOVES = ("Softmax", "Sigmoid", "HardSigmoid"), (*_SHAPE_ONLY, "Transpose", "Dropout")
_SUBGRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_CHOOSE = {"ArgMax": 0, "ArgMin": 0, "TopK": 1}  # which of their results are indices


@dataclass(frozen=True)
class Choice:
    """Indices that ArgMax, ArgMin or TopK choose: their name, that of the scores, and how.

    `axis` is that of the scores; `lost_axis` whether the indices lack it (`keepdims` 0).
    """

    indices: str
    scores: str
    axis: int
    largest: bool
    lost_axis: bool


@dataclass(frozen=True)
class Decision:
    """Where an output of whole numbers comes from.

    Attributes:
        scores: names of the floating-point values that it was decided by, in the order of a walk back.
        choice: set where the output is, reshaped at most, what one node chose.
    """

    scores: tuple[str, ...]
    choice: Choice | None = None


def decisions(model: ir.Model) -> dict[str, Decision]:
    """Of every output that is no floating-point number, by name."""
    found, types = {}, Shapes(model)
    for value in model.graph.outputs:
        if types.dtype(value) not in _FLOATING:
            scores = tuple(dict.fromkeys(str(each.name) for each in _scores(value, types) if each.name))
            found[str(value.name)] = Decision(scores, _choice(value, types))
    return found


def scores_at(choice: Choice, scores: Array, indices: Array) -> Array | None:
    """The scores that indices point to, along the choice's axis; None where they don't fit."""
    axis = choice.axis % scores.ndim
    placed = np.expand_dims(indices, axis) if choice.lost_axis else indices
    size = scores.shape[axis]
    if placed.ndim != scores.ndim or (placed.size and not -size <= placed.min() <= placed.max() < size):
        return None
    taken: Array = np.take_along_axis(scores, placed.astype(np.int64), axis)
    return taken


def are_best(choice: Choice, scores: Array, indices: Array) -> bool | None:
    """Whether indices are of the best scores, whichever of equals they name; None where they don't fit."""
    taken = scores_at(choice, scores, indices)
    if taken is None:
        return None
    axis = choice.axis % scores.ndim
    size, count = scores.shape[axis], taken.shape[axis]
    best = range(size - count, size) if choice.largest else range(count)
    return np.array_equal(np.sort(taken, axis), np.take(np.sort(scores, axis), best, axis), equal_nan=True)


def channel_axes(value: ir.Value | None, rank: int) -> tuple[int, ...]:
    """Axes along which the channels of a tensor (samples, ...) lie: 1 behind convolutions, the last behind products.

    Where the graph does not tell: both; of images (rank 4 and above) axis 1 alone, as rows of pixels are no channels.
    """
    if rank < 2:
        return ()
    source = None if value is None else _kind_behind(value)
    if rank == 2 or source in _CHANNELS_FIRST:
        return (1,)
    if source in _CHANNELS_LAST:
        return (rank - 1,)
    return (1, rank - 1) if rank == 3 or source is not None else (1,)


def shares_in(model: ir.Model) -> frozenset[str]:
    """Names of the values of the main graph that a Softmax or Sigmoid made: shares, all channels on one scale."""
    return frozenset(name for name, value in values_of(model).items() if _are_shares(value))


def values_of(model: ir.Model) -> Mapping[str, ir.Value]:
    """Everything that the main graph computes or reads, by name."""
    computed = [value for node in model.graph for value in node.outputs]
    return {str(value.name): value for value in [*model.graph.inputs, *computed] if value.name}


def _are_shares(value: ir.Value | None) -> bool:
    while value is not None and (node := value.producer()) is not None and value is node.outputs[0]:
        if op(node) in _SHARES:
            return True
        if op(node) not in _MOVES:
            return False
        value = node.inputs[0]
    return False


def _kind_behind(value: ir.Value) -> str | None:
    """The kind of the first node back that is not elementwise."""
    current: ir.Value | None = value
    while current is not None and (node := current.producer()) is not None:
        if op(node) not in _ELEMENTWISE:
            return op(node)
        position = 1 if op(node) == "Where" else 0
        inputs = [each for each in node.inputs[position:] if each is not None and each.const_value is None]
        current = inputs[0] if inputs else None
    return None


def _scores(output: ir.Value, types: Shapes) -> Iterator[ir.Value]:
    """The floating-point values that a walk back over whole numbers ends at; none behind shapes and subgraphs."""
    waiting, seen = [output], {output}
    while waiting:
        node = waiting.pop(0).producer()
        if node is None or op(node) in ("Shape", "Size"):
            continue
        if any(attribute.type in _SUBGRAPHS for attribute in node.attributes.values()):
            continue
        for value in node.inputs:
            if value is None or value in seen or value.const_value is not None:
                continue
            seen.add(value)
            producer = value.producer()
            if types.dtype(value) not in _FLOATING:
                waiting.append(value)
            elif producer is None or op(producer) != "Constant":
                yield value


def _choice(output: ir.Value, types: Shapes) -> Choice | None:
    value = output
    while (node := value.producer()) is not None and op(node) in _SHAPE_ONLY:
        before = node.inputs[0]
        if before is None or types.dtype(before) in _FLOATING:
            return None
        value = before
    if node is None or op(node) not in _CHOOSE or list(node.outputs).index(value) != _CHOOSE[op(node)]:
        return None
    scores = node.inputs[0]
    if scores is None or not scores.name or not value.name or types.dtype(scores) not in _FLOATING:
        return None
    default = -1 if op(node) == "TopK" else 0
    axis, largest = _int(node, "axis", default), _int(node, "largest", 1)
    kept = op(node) == "TopK" or _int(node, "keepdims", 1)
    return Choice(value.name, scores.name, axis, bool(largest) and op(node) != "ArgMin", not kept)


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
