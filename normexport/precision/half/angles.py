"""Whole numbers and angles: what a half type must not round because a small relative error there is a wrong value.

float16 holds whole numbers up to 2048 exactly, bfloat16 up to 256; float32 up to 16 million. So what is computed from
integers and constants alone (time steps, positions, cents, seconds since 1970, lengths) stays in float32 until it meets
activations or a matrix of weights. So do the arguments of Sin, Cos and Tan, back to where they are no longer moved or
scaled: at 1000 radians a float16 is off by up to 0.25, a bfloat16 by 2.
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes

_MOVES = ["Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose"]
_ARITHMETIC = ["Add", "Cast", "Div", "Mod", "Mul", "Neg", "Sub", "Unsqueeze"]
#: Passed on the way back from an angle.
_SCALES = frozenset([*_MOVES, *_ARITHMETIC])
#: Passed on the way on from whole numbers.
_KEEPS_COUNTING = frozenset(
    [
        *_SCALES,
        *["Abs", "Ceil", "Clip", "Cos", "CumSum", "Exp", "Floor", "Gather", "Log", "Max", "Min", "Pow", "Reciprocal"],
        *["ReduceMax", "ReduceMin", "ReduceSum", "Round", "Sign", "Sin", "Sqrt", "Where"],
    ]
)
_PERIODIC = frozenset(["Sin", "Cos", "Tan"])
_WHOLE = frozenset(
    [
        *[ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64],
        *[ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64],
    ]
)


def float32_nodes(model: ir.Model, shapes: Shapes) -> set[ir.Node]:
    """The nodes that compute from whole numbers alone, or the argument of a periodic function."""
    return _counting(model.graph, shapes) | _angles(model.graph, shapes)


def _counting(graph: ir.Graph, shapes: Shapes) -> set[ir.Node]:
    """Nodes with a floating result that follows from integers and constants, and from one integer at least."""
    constant = {*graph.initializers.values()} - {*graph.inputs}
    counted: set[ir.Value] = set()
    nodes = set()
    for node in graph:
        inputs = [value for value in node.inputs if value is not None]
        if op(node) in ("Constant", "ConstantOfShape") or (inputs and all(value in constant for value in inputs)):
            constant.update(node.outputs)
            continue
        floating = [value for value in inputs if shapes.dtype(value) == ir.DataType.FLOAT]
        starts = op(node) == "Range" or (op(node) == "Cast" and shapes.dtype(inputs[0]) in _WHOLE)
        goes_on = any(value in counted for value in floating) and all(
            value in counted or value in constant for value in floating
        )
        if starts or (goes_on and (op(node) in _KEEPS_COUNTING or _is_outer(node, shapes))):
            counted.update(node.outputs)
            nodes.add(node)
    return nodes


def _angles(graph: ir.Graph, shapes: Shapes) -> set[ir.Node]:
    """Periodic functions, and what moves and scales their arguments."""
    found: set[ir.Node] = set()
    waiting = [node for node in graph if op(node) in _PERIODIC]
    while waiting:
        node = waiting.pop()
        found.add(node)
        for value in node.inputs:
            maker = value.producer() if value is not None else None
            if maker is None or maker in found or shapes.dtype(maker.outputs[0]) != ir.DataType.FLOAT:
                continue
            if op(maker) in _SCALES or _is_outer(maker, shapes):
                waiting.append(maker)
    return found


def _is_outer(node: ir.Node, shapes: Shapes) -> bool:
    """Whether a product of matrices adds nothing up: (..., n, 1) times (..., 1, m)."""
    if op(node) != "MatMul" or node.inputs[0] is None:
        return False
    sizes = shapes.of(node.inputs[0])
    return sizes is not None and sizes[-1:] == (1,)
