"""Which numbers a graph allows on its integer inputs: rows of the tables that they index, and nothing wild for sizes.

An input x is followed forward while it stays a*x + b, up to the nodes that take it as an index: 0 <= a*x + b < rows.
Beyond Clip, Mod and what else is not linear no table binds it, nor behind a Where, which may put another number in the
place of one that is no row: there the table says what is worth trying, and what the reference bears is tried. A size
(of a Reshape, a Range, the trips of a Loop) may ask for any memory, so an input that becomes one, by whatever
arithmetic, is tried at 0 and 1, and at few more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import onnx_ir as ir

from normexport.proof.inputs.following import Reached, constant_numbers, uses_of

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
    """The least and largest number of an integer input (None: no end), and why, in words; whether it is a size."""

    low: int | None
    high: int | None
    reason: str
    is_size: bool = False

    def meet(self, other: Bounds | None) -> Bounds:
        """What both allow; the reason is the narrower one's."""
        if other is None:
            return self
        low = max((end for end in (self.low, other.low) if end is not None), default=None)
        high = min((end for end in (self.high, other.high) if end is not None), default=None)
        narrower = self if (high == self.high and self.high is not None) or other.high is None else other
        return Bounds(low, high, narrower.reason, self.is_size or other.is_size)


def integer_bounds(model: ir.Model, *, guarded: bool = False) -> dict[str, Bounds]:
    """By name, what the main graph allows on each of its integer inputs; inputs that nothing binds are left out.

    Args:
        guarded: count tables too that other numbers may be kept from: what says something, allowed or not.
    """
    found = {}
    for value in model.graph.inputs:
        if value.name is None or value.dtype is None or not value.dtype.is_integer():
            continue
        bounds: Bounds | None = None
        for one in _bounds_on(value, guarded):
            bounds = one.meet(bounds)
        if bounds is not None:
            found[value.name] = bounds
    return found


def _bounds_on(start: ir.Value, guarded: bool) -> Iterator[Bounds]:
    for node, position, reached in uses_of(start, _is_size):
        if _is_size(node, position):
            yield Bounds(0, 1, f"and a few more: it is a size of {node.op_type}", is_size=True)
        elif (reached.whole or guarded) and (bounds := _bound_of(node, position, reached)) is not None:
            yield bounds


def _is_size(node: ir.Node, position: int) -> bool:
    return position in _SIZES.get(node.op_type, ())


def _bound_of(node: ir.Node, position: int, reached: Reached) -> Bounds | None:
    """What one node allows on a value that it takes as an index, a divisor or a shift."""
    kind = node.op_type
    if kind in ("Gather", "GatherElements", "ScatterElements", "Scatter", "GatherND", "ScatterND") and position == 1:
        rows = _rows(node)
        return None if not rows else _solve(reached, 0, rows - 1, f"an index into {rows} rows")
    if kind == "OneHot" and position == 0:
        depth = constant_numbers(node.inputs[1])
        return None if depth is None else _solve(reached, 0, int(depth.max()) - 1, f"one of {int(depth.max())} classes")
    integer = reached.value.dtype is not None and reached.value.dtype.is_integer()
    if kind in ("Div", "Mod") and position == 1 and integer:
        return _solve(reached, 1, None, "a divisor")
    if kind == "BitShift" and position == 1 and reached.value.dtype is not None:
        return _solve(reached, 0, reached.value.dtype.bitwidth - 1, "a number of bits")
    return None


def _solve(reached: Reached, low: int | None, high: int | None, reason: str) -> Bounds | None:
    """The x for which all that was reached lies in low..high."""
    if not reached.linear or not reached.factor:
        return None
    ends: list[Fraction | None] = [
        None if low is None else reached.at(low),
        None if high is None else reached.at(high, of_least=False),
    ]
    if reached.factor < 0:
        ends.reverse()
    first, last = ends
    return Bounds(None if first is None else math.ceil(first), None if last is None else math.floor(last), reason)


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
