"""Which numbers a graph allows on its integer inputs: rows of the tables that they index, and nothing wild for sizes.

An input x is followed forward while it stays a*x + b, up to the nodes that take it as an index: 0 <= a*x + b < rows.
Beyond Clip, Mod and what else is not linear no table binds it. A size (of a Reshape, a Range, the trips of a Loop) may
ask for any memory, so an input that becomes one, by whatever arithmetic, is tried at 0 and 1 alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx_ir as ir

_MOST_CONSTANTS = 1 << 20  # numbers of a constant that are looked at


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: Operators that hand on the numbers of input 0, in another place or type.
_LAYOUT = _names(
    """Cast Reshape Flatten Squeeze Unsqueeze Transpose Identity Expand Slice Gather Tile Split ReduceMax ReduceMin
    GatherElements GatherND DepthToSpace SpaceToDepth Floor Ceil Round Pad Trilu Concat Where"""
)
#: Operators after which a number still depends on the input, and not linearly.
_ARITHMETIC = _names(
    """Add Sub Mul Div Mod Neg Abs Clip Min Max Pow Sqrt Exp Log ReduceSum ReduceProd ReduceMean CumSum BitShift Sum
    Mean Relu Sign"""
)
#: The inputs that are sizes, counts, axes or lengths: positions -> operators.
_SIZE_POSITIONS = {
    (0,): "ConstantOfShape Loop HannWindow HammingWindow BlackmanWindow",
    (1,): """Reshape Expand Tile TopK Unsqueeze Squeeze Split Trilu CumSum SequenceAt SequenceErase SplitToSequence
        AffineGrid CenterCropPad Upsample ReverseSequence OneHot""",
    (2,): "SequenceInsert",
    (4,): "LSTM GRU RNN",
    (1, 2): "Col2Im DFT MaxUnpool",
    (1, 3): "Pad STFT",
    (0, 1, 2): "Range",
    (1, 2, 3): "Resize",
    (1, 2, 3, 4): "Slice",
    (0, 1, 2, 3, 4): "MelWeightMatrix",
}
_SIZES = {op: positions for positions, ops in _SIZE_POSITIONS.items() for op in ops.split()}


@dataclass(frozen=True)
class Bounds:
    """The least and largest number of an integer input (None: no end), and why, in words."""

    low: int | None
    high: int | None
    reason: str

    def meet(self, other: Bounds | None) -> Bounds:
        """What both allow; the reason is the narrower one's."""
        if other is None:
            return self
        low = max((end for end in (self.low, other.low) if end is not None), default=None)
        high = min((end for end in (self.high, other.high) if end is not None), default=None)
        narrower = self if (high == self.high and self.high is not None) or other.high is None else other
        return Bounds(low, high, narrower.reason)


@dataclass(frozen=True)
class _Reached:
    """A value that is factor * x + [least, most]; `linear` False: that depends on x in another way."""

    value: ir.Value
    factor: Fraction = Fraction(1)
    least: Fraction = Fraction(0)
    most: Fraction = Fraction(0)
    linear: bool = True

    def solve(self, low: int | None, high: int | None, reason: str) -> Bounds | None:
        """The x for which all of this lies in low..high."""
        if not self.linear or not self.factor:
            return None
        ends: list[Fraction | None] = [
            None if low is None else (low - self.least) / self.factor,
            None if high is None else (high - self.most) / self.factor,
        ]
        if self.factor < 0:
            ends.reverse()
        first, last = ends
        return Bounds(None if first is None else math.ceil(first), None if last is None else math.floor(last), reason)


def integer_bounds(model: ir.Model) -> dict[str, Bounds]:
    """By name, what the main graph allows on each of its integer inputs; inputs that nothing binds are left out."""
    found = {}
    for value in model.graph.inputs:
        if value.name is None or value.dtype is None or not value.dtype.is_integer():
            continue
        bounds: Bounds | None = None
        for one in _bounds_on(value):
            bounds = one.meet(bounds)
        if bounds is not None:
            found[value.name] = bounds
    return found


def _bounds_on(start: ir.Value) -> Iterator[Bounds]:
    waiting, seen = [_Reached(start)], set()
    while waiting:
        reached = waiting.pop()
        if (id(reached.value), reached.linear) in seen:
            continue
        seen.add((id(reached.value), reached.linear))
        for node, position in reached.value.uses():
            if node.domain not in ("", "ai.onnx"):
                continue
            if position in _SIZES.get(node.op_type, ()):
                yield Bounds(0, 1, f"it is a size of {node.op_type}")
                continue
            bounds = _bound_of(node, position, reached)
            if bounds is not None:
                yield bounds
            waiting.extend(_follow(node, position, reached))


def _bound_of(node: ir.Node, position: int, reached: _Reached) -> Bounds | None:
    """What one node allows on a value that it takes as an index, a divisor or a shift."""
    kind = node.op_type
    if kind in ("Gather", "GatherElements", "ScatterElements", "Scatter", "GatherND", "ScatterND") and position == 1:
        rows = _rows(node)
        return None if not rows else reached.solve(0, rows - 1, f"an index into {rows} rows")
    if kind == "OneHot" and position == 0:
        depth = _constant(node.inputs[1])
        return None if depth is None else reached.solve(0, int(depth.max()) - 1, f"one of {int(depth.max())} classes")
    integer = reached.value.dtype is not None and reached.value.dtype.is_integer()
    if kind in ("Div", "Mod") and position == 1 and integer:
        return reached.solve(1, None, "a divisor")
    if kind == "BitShift" and position == 1 and reached.value.dtype is not None:
        return reached.solve(0, reached.value.dtype.bitwidth - 1, "a number of bits")
    return None


def _follow(node: ir.Node, position: int, reached: _Reached) -> Iterator[_Reached]:
    """The node's outputs that still say something of the input."""
    kind = node.op_type
    if kind in _LAYOUT and (position == 0 or kind == "Concat" or (kind == "Where" and position)):
        for output in node.outputs:
            yield _Reached(output, reached.factor, reached.least, reached.most, reached.linear)
    elif kind in _ARITHMETIC:
        yield _follow_arithmetic(node, position, reached)


def _follow_arithmetic(node: ir.Node, position: int, reached: _Reached) -> _Reached:
    output = node.outputs[0]
    lost = _Reached(output, linear=False)
    if not reached.linear:
        return lost
    factor, least, most = reached.factor, reached.least, reached.most
    if node.op_type == "Neg":
        return _Reached(output, -factor, -most, -least)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return lost
    other = _constant(node.inputs[1 - position])
    if other is None:
        return lost
    low, high = Fraction(float(other.min())), Fraction(float(other.max()))
    if node.op_type == "Add":
        return _Reached(output, factor, least + low, most + high)
    if node.op_type == "Sub" and position == 0:
        return _Reached(output, factor, least - high, most - low)
    if node.op_type == "Sub":
        return _Reached(output, -factor, low - most, high - least)
    if low != high or not low or (node.op_type == "Div" and position):
        return lost
    scale = 1 / low if node.op_type == "Div" else low
    ends = sorted((least * scale, most * scale))
    return _Reached(output, factor * scale, ends[0], ends[1])


def _constant(value: ir.Value | None) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """The numbers of a constant, where they are finite and not many."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None or not 0 < tensor.size <= _MOST_CONSTANTS:
        return None
    numbers: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = tensor.numpy()
    return numbers if numbers.dtype.kind in "iuf" and np.isfinite(numbers).all() else None


def _rows(node: ir.Node) -> int | None:
    """How many entries the axis has that is indexed; of several axes the shortest."""
    sizes = _sizes(node.inputs[0])
    if not sizes:
        return None
    if node.op_type in ("GatherND", "ScatterND"):
        return min(sizes)
    axis = node.attributes.get_int("axis", 0)
    return sizes[axis] if -len(sizes) <= axis < len(sizes) else None


def _sizes(table: ir.Value | None) -> list[int] | None:
    """The shape of a table; None where a size of it is open."""
    while table is not None and table.const_value is None and table.shape is None:
        node = table.producer()
        if node is None or node.op_type not in ("Cast", "Identity", "DequantizeLinear", "QuantizeLinear"):
            return None
        table = node.inputs[0]
    shape = None if table is None else (table.const_value.shape if table.const_value is not None else table.shape)
    if shape is None or not all(isinstance(size, int) for size in shape):
        return None
    return [int(size) for size in shape if isinstance(size, int)]
