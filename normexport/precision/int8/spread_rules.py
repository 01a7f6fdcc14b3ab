"""What operators make of spreads: one rule an operator.

Assumed: channels are independent of each other, as are the operands of an addition that do not come of one tensor;
padding and borders do not count. A layer's weights are trained on inputs that are not independent: W x has twice the
variance that independence gives (`_ALIGNED`; 0.5 to 3.4 times in the examples, 2 in the median).

A rule raises `Refuse` where it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from normexport.folding.constants import Constants
from normexport.graphs.refusal import Refuse
from normexport.graphs.shapes import Shapes
from normexport.precision.int8.spread_functions import FUNCTIONS
from normexport.precision.int8.spreads import Array, Spread, spread_of

_ALIGNED = 2.0


@dataclass(frozen=True)
class Bounded:
    """Between which numbers the first `outputs` results of an operator lie."""

    ends: tuple[float, float]
    outputs: int = 1


class Known:
    """What is known so far of a graph's tensors: constants, sizes and spreads."""

    def __init__(self, model: ir.Model) -> None:
        self.constants, self.shapes = Constants(model.graph), Shapes(model)
        self.spreads: dict[ir.Value, Spread] = {}

    def of(self, node: ir.Node, index: int = 0) -> Spread:
        """The spread of an input.

        Raises:
            Refuse: it is not known.
        """
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or value not in self.spreads:
            raise Refuse("its spread is not known")
        return self.spreads[value]

    def operand(self, node: ir.Node, index: int) -> Spread | Array:
        """An input: its spread, or the constant that it is."""
        value = node.inputs[index]
        return self.constants.array(value) if value in self.constants else self.of(node, index)

    def rank(self, node: ir.Node, index: int = 0) -> int:
        """The rank of an input.

        Raises:
            Refuse: it is not known.
        """
        value = node.inputs[index]
        rank = self.shapes.rank(value) if value is not None else None
        if rank is None:
            raise Refuse("its rank is not known")
        return rank


Rule = Callable[[Known, ir.Node], Spread]


def _conv(known: Known, node: ir.Node) -> Spread:
    weight, groups = known.constants.array(node.inputs[1]), node.attributes.get_int("group", 1)
    return _layer(known, node, weight.reshape(*weight.shape[:2], -1), groups, 1)


def _conv_transpose(known: Known, node: ir.Node) -> Spread:
    """ConvTranspose: each output position sees 1/prod(strides) of the taps."""
    weight, groups = known.constants.array(node.inputs[1]), node.attributes.get_int("group", 1)
    taps = weight.reshape(weight.shape[0], weight.shape[1], -1)
    share = 1 / math.prod(int(step) for step in node.attributes.get_ints("strides", (1,)))
    parts = np.split(taps, groups)
    moved = np.concatenate([part.transpose(1, 0, 2) for part in parts])
    return _layer(known, node, moved, groups, 1, share)


def _gemm(known: Known, node: ir.Node) -> Spread:
    if node.attributes.get_int("transA", 0):
        raise Refuse("it reads its input transposed")
    weight = known.constants.array(node.inputs[1])
    weight = weight if node.attributes.get_int("transB", 0) else weight.T
    return _layer(known, node, (weight * node.attributes.get_float("alpha", 1.0))[:, :, None], 1, 1)


def _matmul(known: Known, node: ir.Node) -> Spread:
    weight = known.constants.array(node.inputs[1])
    if weight.ndim != 2:
        raise Refuse("its weight is no matrix")
    return _layer(known, node, weight.T[:, :, None], 1, known.rank(node) - 1)


def _layer(known: Known, node: ir.Node, taps: Array, groups: int, axis: int, share: float = 1.0) -> Spread:
    """Weights (M, C/g, taps): mean sum W mu + b, variance sum W^2 sigma^2, times `_ALIGNED`."""
    spread, per_group = known.of(node), taps.shape[1]
    if spread.channels > 1 and (spread.axis != axis or spread.channels != per_group * groups):
        spread = spread.mixed()
    rows = taps.shape[0] // groups
    mean, variance = (
        np.repeat(np.broadcast_to(each, (per_group * groups,)).reshape(groups, per_group), rows, axis=0)
        for each in (spread.mean, spread.variance)
    )
    sums, squares = taps.sum(axis=2) * share, np.square(taps).sum(axis=2) * share
    total = np.einsum("mc,mc->m", sums, mean)
    power = _ALIGNED * np.einsum("mc,mc->m", squares, variance)
    bias = known.constants.array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    return spread_of(total + np.broadcast_to(bias.reshape(-1), total.shape), np.sqrt(power), axis)


def _window(node: ir.Node) -> int:
    """How many positions a pool reads."""
    return math.prod(int(size) for size in node.attributes.get_ints("kernel_shape", (1,)))


def _max_pool(known: Known, node: ir.Node) -> Spread:
    return known.of(node).largest_of(_window(node))


def _average_pool(known: Known, node: ir.Node) -> Spread:
    return known.of(node).mean_of(_window(node))


def _space(known: Known, node: ir.Node) -> int:
    """How many positions of a channel are reduced."""
    value = node.inputs[0]
    sizes = known.shapes.of(value) if value is not None else None
    return math.prod(size or 1 for size in (sizes or ())[2:])


def _global_average(known: Known, node: ir.Node) -> Spread:
    return known.of(node).mean_of(max(1, _space(known, node)))


def _global_max(known: Known, node: ir.Node) -> Spread:
    return known.of(node).largest_of(max(1, _space(known, node)))


def _reduced_axes(known: Known, node: ir.Node) -> tuple[int, ...]:
    rank = known.rank(node)
    axes = node.attributes.get_ints("axes", ()) or ()
    if not axes and len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = [int(axis) for axis in known.constants.array(node.inputs[1]).reshape(-1)]
    return tuple(sorted(axis % rank for axis in axes)) or tuple(range(rank))


def _reduce(largest: bool, known: Known, node: ir.Node) -> Spread:
    spread, axes = known.of(node), _reduced_axes(known, node)
    value = node.inputs[0]
    sizes: Sequence[int | None] = (known.shapes.of(value) if value is not None else None) or ()
    count = max(1, math.prod(sizes[axis] or 1 for axis in axes if axis < len(sizes)))
    if spread.channels > 1 and spread.axis in axes:
        spread = spread.mixed()
    found = spread.largest_of(count) if largest else spread.mean_of(count)
    kept = bool(node.attributes.get_int("keepdims", 1))
    axis = spread.axis if kept else spread.axis - sum(each < spread.axis for each in axes)
    return Spread(found.points, axis)


def _binary(join: str, known: Known, node: ir.Node) -> Spread:
    if len(node.inputs) != 2:
        raise Refuse("of more than two it is not known")
    first, second = known.operand(node, 0), known.operand(node, 1)
    rank = max(known.rank(node, 0), known.rank(node, 1))
    function = _FUNCTIONS_OF_TWO[join]
    if isinstance(first, Spread) and isinstance(second, Spread):
        if join not in _OF_TENSORS:
            raise Refuse("of two tensors it is not known")
        return _side_by_side(first, second, function)
    spread = first if isinstance(first, Spread) else second
    constant = second if isinstance(first, Spread) else first
    assert isinstance(spread, Spread)
    assert not isinstance(constant, Spread)
    column, spread = _along(constant, spread, rank)
    if isinstance(first, Spread):
        return spread.map(lambda points: function(points, column))
    return spread.map(lambda points: function(column, points))


def _along(constant: Array, spread: Spread, rank: int) -> tuple[Array, Spread]:
    """A constant as (C, 1) beside a spread of as many channels.

    Raises:
        Refuse: it varies along another axis.
    """
    full = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    large = [axis for axis in range(rank) if full.shape[axis] > 1]
    if not large:
        return full.reshape(1, 1), spread
    if len(large) > 1:
        raise Refuse("a constant varies along several axes")
    values = full.reshape(-1, 1)
    if spread.channels == 1:
        return values, Spread(np.repeat(spread.points, len(values), axis=0), large[0], spread.root)
    if large[0] != spread.axis or len(values) != spread.channels:
        raise Refuse("a constant varies along another axis")
    return values, spread


def _side_by_side(first: Spread, second: Spread, function: Callable[[Array, Array], Array]) -> Spread:
    alike = (first.channels, first.axis) == (second.channels, second.axis)
    if not alike and 1 not in (first.channels, second.channels):
        first, second = first.mixed(), second.mixed()
    return first.joined(second, function)


_FUNCTIONS_OF_TWO: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sum": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "PRelu": lambda x, slope: np.where(x >= 0, x, x * slope),
    "Pow": np.power,
}
_OF_TENSORS = ("Add", "Sum", "Sub", "Mul", "Max", "Min")


def _concat(known: Known, node: ir.Node) -> Spread:
    spreads = [known.of(node, index) for index in range(len(node.inputs))]
    axis = node.attributes.get_int("axis", 1) % known.rank(node)
    parts = []
    for index, spread in enumerate(spreads):
        value = node.inputs[index]
        size = known.shapes.size(value, axis) if value is not None else None
        if spread.channels > 1 and (spread.axis != axis or size != spread.channels):
            spread = spread.mixed()
        parts.append(np.repeat(spread.ordered(), size or 1, axis=0) if spread.channels == 1 else spread.ordered())
    return Spread(np.concatenate(parts), axis)


def _reshape(known: Known, node: ir.Node) -> Spread:
    """(N, C, H, W) -> (N, C*H*W): each channel's spread for all its positions; else the tensor as one."""
    spread, source, result = known.of(node), node.inputs[0], node.outputs[0]
    assert source is not None
    before, after = known.shapes.of(source), known.shapes.of(result)
    if spread.channels == 1:
        return spread
    if before is not None and after is not None and spread.axis == 1 and len(before) > 1 and len(after) > 1:
        if after[1] == spread.channels:
            return spread
        rest = before[2:]
        if len(after) == 2 and None not in rest and after[1] == spread.channels * math.prod(each or 0 for each in rest):
            return Spread(np.repeat(spread.points, after[1] // spread.channels, axis=0))
    return spread.mixed()


def _transpose(known: Known, node: ir.Node) -> Spread:
    spread, rank = known.of(node), known.rank(node)
    order = list(node.attributes.get_ints("perm", ()) or range(rank)[::-1])
    return Spread(spread.points, order.index(spread.axis), spread.root) if spread.axis in order else spread.mixed()


def _same(known: Known, node: ir.Node) -> Spread:
    return known.of(node)


def _whole(known: Known, node: ir.Node) -> Spread:
    return known.of(node).mixed()


def _function(name: str, known: Known, node: ir.Node) -> Spread:
    return known.of(node).map(partial(FUNCTIONS[name], node))


def _clip(known: Known, node: ir.Node) -> Spread:
    ends = [node.attributes.get_float("min", -np.inf), node.attributes.get_float("max", np.inf)]
    for index in (1, 2):
        if len(node.inputs) > index and node.inputs[index] is not None:
            ends[index - 1] = float(known.constants.array(node.inputs[index]).reshape(-1)[0])
    return known.of(node).map(lambda points: np.clip(points, ends[0], ends[1]))


#: What only moves numbers, so that they stay within their bounds.
MOVES = frozenset(
    (
        *("Identity", "Dropout", "Cast", "Pad", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice"),
        *("Gather", "DepthToSpace", "SpaceToDepth", "Expand", "MaxPool"),
    )
)

#: Operators whose results lie between these, whatever they read.
BOUNDED = {
    "Softmax": Bounded((0.0, 1.0)),
    "LSTM": Bounded((-1.0, 1.0), outputs=2),  # of the cells' state, the third, nothing is known
    "GRU": Bounded((-1.0, 1.0), outputs=2),
    "RNN": Bounded((-1.0, 1.0), outputs=2),
}

OPERATORS: dict[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "ReduceMean": partial(_reduce, False),
    "ReduceMax": partial(_reduce, True),
    **{name: partial(_binary, name) for name in _FUNCTIONS_OF_TWO},
    "Concat": _concat,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Transpose": _transpose,
    **dict.fromkeys(("Identity", "Dropout", "Cast", "Pad", "Resize", "Upsample"), _same),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Slice", "Gather", "DepthToSpace", "SpaceToDepth", "Expand"), _whole),
    "Clip": _clip,
    **{name: partial(_function, name) for name in FUNCTIONS},
}
