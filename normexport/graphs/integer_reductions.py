"""Reductions of whole numbers in a form that OpenVINO computes: over four axes in the place of three.

OpenVINO 2026.4 computes the element-wise operator after a reduction with it, and of int32 and int64 with three axes it
gets that wrong from the 17th result on: Add(ReduceMax(x (6, 4, 30), axis 2), 1). With two and four axes it is right.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from normexport.graphs.initializers import add_initializer
from normexport.graphs.names import Names
from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes

_REDUCTIONS = ("ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum")
_WHOLE = (ir.DataType.INT32, ir.DataType.INT64)


def spread_reductions(model: ir.Model, nodes: Iterable[ir.Node]) -> None:
    """Give an axis of one more, in place, to what nodes reduce, where that is of integers and has three axes."""
    shapes, names = Shapes(model), Names(model.graph)
    for node in nodes:
        source = node.inputs[0] if op(node) in _REDUCTIONS else None
        if source is None or shapes.rank(source) != 3 or shapes.dtype(source) not in _WHOLE:
            continue
        axes = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if axes is None or (axes.numpy() < 0).any() or not isinstance(node.graph, ir.Graph):
            continue
        _spread(node, source, names)


def _spread(node: ir.Node, source: ir.Value, names: Names) -> None:
    graph, (output,) = node.graph, node.outputs
    assert isinstance(graph, ir.Graph)
    last = add_initializer(graph, names.fresh(f"{output.name}/last"), np.array([-1], np.int64))
    before = ir.Node("", "Unsqueeze", [source, last], name=names.fresh(f"{node.name}/spread"))
    before.outputs[0].name = names.fresh(f"{output.name}/spread")
    graph.insert_before(node, before)
    node.replace_input_with(0, before.outputs[0])
    after = ir.Node("", "Squeeze", [output, last], name=names.fresh(f"{node.name}/narrowed"))
    after.outputs[0].name = names.fresh(f"{output.name}/narrowed")
    after.outputs[0].shape, output.shape = output.shape, None
    output.replace_all_uses_with(after.outputs[0])
    after.replace_input_with(0, output)
    graph.insert_after(node, after)
