"""The graphs inside If, Loop and Scan as graphs of their own, so that norms fold there as they do anywhere.

A branch may run or not and a loop many times: what is exact for one run of its body is exact for each. While a body is
folded, stand-ins take the place of what it captures: an input for a value, an initializer for a constant. A captured
constant that changes becomes the body's own; outside it stays as it is, and goes where nobody else needs it.

Refuses: weights that are also read outside the body. Leaves alone: bodies that return what they capture, or capture a
value whose type is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.graphs.refusal import Refuse

_MOST_COMPUTED = 1 << 16  # numbers: a scale per channel is computed around a body, a weight seldom


def inner_graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """The graphs that nodes of a graph hold, not those within them."""
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.GRAPH:
                yield attribute.as_graph()
            elif attribute.type == ir.AttributeType.GRAPHS:
                yield from attribute.as_graphs()


@contextmanager
def standing_alone(body: ir.Graph, outer: Draft) -> Iterator[Draft | None]:
    """A draft of a body, which is whole by itself as long as this lasts; None where it can't be.

    outer: the draft of the graph around it, of whose names new ones are free.
    """
    captured = _captured(body)
    if captured is None or any(outer.shapes.dtype(value) is None for value in captured):
        yield None
        return
    imports, inside = dict(body.opset_imports), set(body.all_nodes())
    stand_ins = {value: _stand_in(value, outer) for value in captured}
    for value, stand_in in stand_ins.items():
        for use in list(value.uses()):
            if use.node in inside:
                use.node.replace_input_with(use.idx, stand_in)
        if stand_in.const_value is None:
            body.inputs.append(stand_in)
        else:
            body.register_initializer(stand_in)
    body.opset_imports.update(outer.graph.opset_imports)
    try:
        yield _draft(body, outer, stand_ins, inside)
    finally:
        for value, stand_in in stand_ins.items():
            if stand_in.is_graph_input():
                body.inputs.remove(stand_in)
            elif body.initializers.get(stand_in.name or "") is stand_in:
                del body.initializers[stand_in.name or ""]
            stand_in.replace_all_uses_with(value)
        body.opset_imports.clear()
        body.opset_imports.update(imports)
        outer.release(captured)


def _draft(body: ir.Graph, outer: Draft, stand_ins: dict[ir.Value, ir.Value], inside: set[ir.Node]) -> Draft:
    model = outer.model_of(body)
    draft = Draft(model.clone(), model, outer.config)
    draft.fresh = outer.fresh
    draft.constants.captured = frozenset(stand_ins.values())
    draft.constants.shared = frozenset(
        stand_in
        for value, stand_in in stand_ins.items()
        if value.is_graph_output() or any(use.node not in inside for use in value.uses())
    )
    return draft


def _captured(body: ir.Graph) -> list[ir.Value] | None:
    """What a body reads from around it, in order; None where it returns such a value."""
    own: set[ir.Value] = set()
    for graph in (body, *body.subgraphs()):
        own.update(graph.inputs)
        own.update(graph.initializers.values())
    nodes = list(body.all_nodes())
    own.update(value for node in nodes for value in node.outputs)
    if any(value not in own for graph in (body, *body.subgraphs()) for value in graph.outputs):
        return None
    return list(dict.fromkeys(v for node in nodes for v in node.inputs if v is not None and v not in own))


def _stand_in(value: ir.Value, outer: Draft) -> ir.Value:
    sizes, dtype = outer.shapes.named(value), outer.shapes.dtype(value)
    assert dtype is not None
    tensor = _constant(value, dtype, outer) if value in outer.constants else None
    shape = None if sizes is None else ir.Shape(sizes)
    return ir.Value(name=value.name, shape=shape, type=ir.TensorType(dtype), const_value=tensor)


def _constant(value: ir.Value, dtype: ir.DataType, outer: Draft) -> ir.TensorProtocol | None:
    """What a captured constant is, None for one that is computed and large."""
    stored = ir.convenience.get_const_tensor(value)
    sizes = outer.shapes.of(value)
    if stored is not None or sizes is None or None in sizes or prod(size or 0 for size in sizes) > _MOST_COMPUTED:
        return stored
    try:
        return ir.Tensor(outer.constants.array(value).astype(dtype.numpy()), dtype=dtype, name=value.name)
    except Refuse:
        return None
