"""Branches and loops of an ONNX graph that no input takes: whatever stands in them is not compared."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from normexport.graphs.node_metadata import module_path
from normexport.proof.inputs.batches import Batch
from normexport.runtime import OnnxRuntime

#: What they give is the same for all inputs of a size and type.
_SHAPES = ("Shape", "Size", "EyeLike")


def untaken_branches(model: ir.Model, batches: Sequence[Batch]) -> tuple[str, ...]:
    """What to say of each If of the main graph that goes the same way for all `batches`, though numbers decide it.

    The same of each Loop that numbers keep from running at all. What sizes decide (an exporter's guard) is passed
    over: other sizes are other runs.
    """
    numbers = numbers_in(model.graph)
    asking = [
        (node, value)
        for node in model.graph
        if node.op_type in ("If", "Loop") and node.domain == ""
        for value in (node.inputs[:1] if node.op_type == "If" else node.inputs[:2])
        if value in numbers
    ]
    names = {str(value.name) for _, value in asking}
    if not names:
        return ()
    seen: dict[str, set[bool]] = {name: set() for name in names}
    runtime = OnnxRuntime(model)
    for batch in batches:
        values = {**batch.feeds, **runtime.run(batch.feeds, sorted(names - set(batch.feeds)))}
        for name in names & set(values):
            seen[name].add(bool(values[name].reshape(-1)[0]))
    said = []
    for node, value in asking:
        ways, place = seen[str(value.name)], module_path(node) or node.name
        if node.op_type == "Loop" and ways == {False}:
            said.append(f"{place or 'a Loop'}: none of the inputs makes it run")
        elif node.op_type == "If" and len(ways) == 1:
            other = "else" if ways == {True} else "then"
            said.append(f"{place or 'an If'}: none of the inputs takes its {other} branch")
    return tuple(said)


def _numbers_read(node: ir.Node) -> Sequence[ir.Value | None]:
    """The inputs of whose numbers a node makes something; of the others it reads the sizes or the type."""
    if node.op_type in _SHAPES:
        return ()
    return node.inputs[:1] if node.op_type == "CastLike" else node.inputs


def numbers_in(graph: ir.Graph) -> set[ir.Value]:
    """All values, those of bodies too, that follow from the numbers of an input, not from its shape alone."""
    found: set[ir.Value] = set()
    _follow(graph, found)
    return found


def _follow(graph: ir.Graph, found: set[ir.Value]) -> None:
    found.update(value for value in graph.inputs if value.const_value is None)
    for node in graph:
        bodies = [attribute.value for attribute in node.attributes.values() if isinstance(attribute.value, ir.Graph)]
        read = [
            *_numbers_read(node),
            *(value for body in bodies for inner in body.all_nodes() for value in inner.inputs),
        ]
        if any(value in found for value in read):
            found.update(node.outputs)
        for body in bodies:
            _follow(body, found)
