"""Where the numbers of an input arrive in a graph: followed forward while they stay a*x + b."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np
import onnx_ir as ir

from normexport.io.onnx_domain import is_onnx_domain

_MOST_CONSTANTS = 1 << 20  # numbers of a constant that are looked at


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: Operators that hand on the numbers of input 0, in another place or type.
LAYOUT = _names(
    """Cast Reshape Flatten Squeeze Unsqueeze Transpose Identity Expand Slice Gather Tile Split ReduceMax ReduceMin
    GatherElements GatherND DepthToSpace SpaceToDepth Floor Ceil Round Pad Trilu Concat Where"""
)
#: Of these, what hands on some of the numbers, and others in place of the rest.
_CHOOSE = _names("Where ReduceMax ReduceMin")
_NARROW = 32  # bits; as an integer of fewer a number may be another
#: Operators after which a number still depends on the input, and not linearly.
_ARITHMETIC = _names(
    """Add Sub Mul Div Mod Neg Abs Clip Min Max Pow Sqrt Exp Log ReduceSum ReduceProd ReduceMean CumSum BitShift Sum
    Mean Relu Sign"""
)


@dataclass(frozen=True)
class Reached:
    """A value that is factor * x + [least, most]; `linear` False: that depends on x in another way.

    `whole` False: for some of x it may be another number, as behind a Where: what it must be, x need not.
    """

    value: ir.Value
    factor: Fraction = Fraction(1)
    least: Fraction = Fraction(0)
    most: Fraction = Fraction(0)
    linear: bool = True
    whole: bool = True

    def at(self, value: float | Fraction, *, of_least: bool = True) -> Fraction:
        """The x at which this is `value`, by the least or the most of what is added; `factor` is not 0."""
        return (Fraction(value) - (self.least if of_least else self.most)) / self.factor


def uses_of(
    start: ir.Value, ends: Callable[[ir.Node, int], bool] = lambda node, position: False
) -> Iterator[tuple[ir.Node, int, Reached]]:
    """Each use, by an ONNX operator of the main graph, of what still says something of `start`.

    Args:
        ends: whether what a node makes of the value at an input says nothing more.

    Yields:
        The node, the position among its inputs, and what arrives there.
    """
    waiting, seen = [Reached(start)], set()
    while waiting:
        reached = waiting.pop()
        if (key := (id(reached.value), reached.linear, reached.whole)) in seen:
            continue
        seen.add(key)
        for node, position in reached.value.uses():
            if not is_onnx_domain(node.domain):
                continue
            yield node, position, reached
            if not ends(node, position):
                waiting.extend(_follow(node, position, reached))


def _follow(node: ir.Node, position: int, reached: Reached) -> Iterator[Reached]:
    """The node's outputs that still say something of the input."""
    kind = node.op_type
    if _asks_whether(node, position):
        yield Reached(node.outputs[0], linear=False)
    elif kind in LAYOUT and (position == 0 or kind in ("Concat", "Where")):
        whole = reached.whole and kind not in _CHOOSE and not _narrows(node)
        for output in node.outputs:
            yield replace(reached, value=output, whole=whole)
    elif kind in _ARITHMETIC:
        yield _follow_arithmetic(node, position, reached)


def _asks_whether(node: ir.Node, position: int) -> bool:
    """Whether a node makes a truth value of the number, or chooses by it."""
    to_bool = node.op_type == "Cast" and node.attributes.get_int("to", 0) == ir.DataType.BOOL
    return to_bool or (node.op_type == "Where" and position == 0)


def _narrows(node: ir.Node) -> bool:
    """Whether a Cast takes numbers to an integer type that holds few of them."""
    kind = ir.DataType(node.attributes.get_int("to", 0)) if node.op_type == "Cast" else ir.DataType.UNDEFINED
    return kind.is_integer() and kind.bitwidth < _NARROW


def _follow_arithmetic(node: ir.Node, position: int, reached: Reached) -> Reached:
    output = node.outputs[0]
    lost = Reached(output, linear=False)
    if not reached.linear:
        return lost
    factor, least, most = reached.factor, reached.least, reached.most
    made = partial(Reached, output, whole=reached.whole)
    if node.op_type == "Neg":
        return made(-factor, -most, -least)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return lost
    other = constant_numbers(node.inputs[1 - position])
    if other is None:
        return lost
    low, high = Fraction(float(other.min())), Fraction(float(other.max()))
    if node.op_type == "Add":
        return made(factor, least + low, most + high)
    if node.op_type == "Sub" and position == 0:
        return made(factor, least - high, most - low)
    if node.op_type == "Sub":
        return made(-factor, low - most, high - least)
    if low != high or not low or (node.op_type == "Div" and position):
        return lost
    scale = 1 / low if node.op_type == "Div" else low
    ends = sorted((least * scale, most * scale))
    return made(factor * scale, ends[0], ends[1])


def constant_numbers(value: ir.Value | None) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """The numbers of a constant, where they are finite and not many."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None or not 0 < tensor.size <= _MOST_CONSTANTS:
        return None
    numbers: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = tensor.numpy()
    return numbers if numbers.dtype.kind in "iuf" and np.isfinite(numbers).all() else None
