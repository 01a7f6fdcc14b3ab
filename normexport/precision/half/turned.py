"""Products behind a Transpose of the first axis, turned around.

ONNX Runtime 1.32 ends with a segmentation fault when it loads a MatMul of a matrix behind a Transpose (perm = 1 0 2 or
1 2 0) in float16, as networks with recurrent layers have it; a Cast to float32 between them changes nothing of that.
The rows of a product may be put in order behind it as well:

    T_102(x) W = T_102(x W)            T_120(x) W = T_102(T_210(x) W)

Every number is the same sum of the same products, in the same order.

Refuses (the node stays): another perm, a right side that is not a matrix, a matrix on the left.
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.graphs.names import Names
from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes

#: By the order before the product: the one that is left in its place; behind the product stands (1, 0, 2).
_BEFORE: dict[tuple[int, ...], tuple[int, ...] | None] = {(1, 0, 2): None, (1, 2, 0): (2, 1, 0)}
_BEHIND = (1, 0, 2)


def turn_products(model: ir.Model) -> None:
    """Turn the products of `model` behind a Transpose in float16 around, in place; what nobody reads any more goes."""
    graph, shapes, names = model.graph, Shapes(model), Names(model.graph)
    for node in list(graph):
        found = _before(node, shapes)
        if found is None:
            continue
        cast, turn = found
        left, order = turn.inputs[0], _BEFORE[_perm(turn)]
        if order is not None:
            left = _insert(graph, node, "Transpose", [left], names, turn, [ir.AttrInt64s("perm", order)])
        if cast is not None:
            left = _insert(graph, node, "Cast", [left], names, cast, list(cast.attributes.values()))
        product = _insert(graph, node, "MatMul", [left, node.inputs[1]], names, node)
        behind = [ir.AttrInt64s("perm", _BEHIND)]
        _replace(graph, node, _insert(graph, node, "Transpose", [product], names, node, behind))
        for unread in (cast, turn):
            if unread is not None and not unread.outputs[0].uses() and not unread.outputs[0].is_graph_output():
                graph.remove(unread, safe=True)


def _before(node: ir.Node, shapes: Shapes) -> tuple[ir.Node | None, ir.Node] | None:
    """The Cast, if there is one, and the Transpose that a product reads; None where it is to stay."""
    if op(node) != "MatMul" or node.inputs[0] is None or node.inputs[1] is None:
        return None
    turn, cast = node.inputs[0].producer(), None
    if turn is not None and op(turn) == "Cast" and turn.inputs[0] is not None:
        turn, cast = turn.inputs[0].producer(), turn
    if turn is None or op(turn) != "Transpose" or turn.graph is not node.graph or _perm(turn) not in _BEFORE:
        return None
    is_half = shapes.dtype(turn.outputs[0]) == ir.DataType.FLOAT16
    return (cast, turn) if is_half and shapes.rank(node.inputs[1]) == 2 else None


def _perm(turn: ir.Node) -> tuple[int, ...]:
    return tuple(turn.attributes.get_ints("perm", ()))


def _insert(
    graph: ir.Graph,
    before: ir.Node,
    operator: str,
    inputs: list[ir.Value | None],
    names: Names,
    like: ir.Node,
    attributes: list[ir.Attr] | None = None,
) -> ir.Value:
    """The output of a new node before another, with the module and the type of the node that it is like."""
    name = names.fresh(f"{like.outputs[0].name}_turned")
    node = ir.Node("", operator, inputs, attributes or [], name=name)
    node.metadata_props.update(like.metadata_props)
    node.outputs[0].name, node.outputs[0].type = name, like.outputs[0].type
    graph.insert_before(before, node)
    return node.outputs[0]


def _replace(graph: ir.Graph, node: ir.Node, by: ir.Value) -> None:
    """Let `by` be what the node's output was, in name and shape too."""
    output = node.outputs[0]
    name, by.shape = output.name, output.shape
    by.metadata_props.update(output.metadata_props)
    output.replace_all_uses_with(by, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    by.name = name
