"""What a live norm may be written with.

A trial on numbers can't see a threshold that no number of it reaches. So what compares with a constant other than zero
is refused, and inputs are tried up to 1e30 (`behaviour.py`); and nothing here draws random numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from normexport.dtypes import FLOATS
from normexport.graphs.nodes import op


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Operators that make one number of many.
REDUCTIONS = _names(
    "GlobalAveragePool GlobalMaxPool ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare TopK"
)
_ELEMENTWISE = _names("Abs Add CastLike Div Identity Mul Neg Pow Reciprocal Relu Sign Sqrt Sub Sum")
#: Operators that only lay numbers out otherwise.
LAYOUT = _names("Concat Expand Flatten Pad Reshape Slice Split Squeeze Tile Transpose Unsqueeze")
#: Those of them that leave elements out, repeat them or put others beside them.
SELECTING = _names("Concat Pad Slice Split Tile")
_COMPARING = _names("Clip Equal Greater GreaterOrEqual Less LessOrEqual Max Min Where")
#: Of sizes: something happens from some size on. `Equal` and `Where` are how exporters write shapes with -1.
COMPARING_SIZES = _names("Clip Greater GreaterOrEqual Less LessOrEqual Max Min")
_CAST_TO = frozenset({*(each.ir for each in FLOATS.values()), ir.DataType.BOOL})

#: What may follow a norm and become part of its scale and bias.
AFFINE = _names("Add Cast CastLike Div Identity Mul Neg Sub")


def is_allowed(node: ir.Node, is_data: Callable[[ir.Value], bool]) -> bool:
    """Whether a node that computes with the input of a sub-graph may be part of what is examined.

    is_data: whether a value depends on numbers of the input.
    """
    name = op(node)
    if name == "Cast":
        return ir.DataType(node.attributes.get_int("to", 0)) in _CAST_TO
    if name == "Pow":
        return node.inputs[1] is not None and not is_data(node.inputs[1])
    return name in REDUCTIONS or name in _ELEMENTWISE or name in LAYOUT or name in _COMPARING


def has_threshold(node: ir.Node, is_data: Callable[[ir.Value], bool], is_zero: Callable[[ir.Value], bool]) -> bool:
    """Whether a node compares with something that is neither computed from the input nor zero throughout.

    is_zero: whether a value is a constant that is zero throughout.
    """
    if op(node) == "Clip":
        return True
    return op(node) in _COMPARING and any(
        value is not None and not is_data(value) and not is_zero(value) for value in node.inputs
    )
