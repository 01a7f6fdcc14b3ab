"""Branches of an ONNX graph that no input takes: whatever stands in them is not compared."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from normexport.graphs.node_metadata import module_path
from normexport.proof.inputs.batches import Batch
from normexport.runtime import OnnxRuntime

_SHAPES = ("Shape", "Size")  # what follows from them is the same for all inputs of a size


def untaken_branches(model: ir.Model, batches: Sequence[Batch]) -> tuple[str, ...]:
    """What to say of each If of the main graph that goes the same way for all `batches`, though numbers decide it.

    An If that sizes decide (an exporter's guard) is passed over: other sizes are other runs.
    """
    asking = [
        node
        for node in model.graph
        if node.op_type == "If" and node.domain == "" and follows_from_numbers(node.inputs[0])
    ]
    names = {str(node.inputs[0].name) for node in asking if node.inputs[0] is not None}
    if not names:
        return ()
    seen: dict[str, set[bool]] = {name: set() for name in names}
    runtime = OnnxRuntime(model)
    for batch in batches:
        values = {**batch.feeds, **runtime.run(batch.feeds, sorted(names - set(batch.feeds)))}
        for name in names & set(values):
            seen[name].add(bool(values[name].reshape(-1)[0]))
    said = []
    for node in asking:
        ways = seen[str(node.inputs[0].name)] if node.inputs[0] is not None else set()
        if len(ways) == 1:
            other = "else" if ways == {True} else "then"
            said.append(f"{module_path(node) or node.name or 'an If'}: none of the inputs takes its {other} branch")
    return tuple(said)


def follows_from_numbers(value: ir.Value | None) -> bool:
    """Whether a value follows from the numbers of an input, and not from their shapes and from constants alone."""
    pending, known = [value], set()
    while pending:
        current = pending.pop()
        if current is None or current in known or current.const_value is not None:
            continue
        known.add(current)
        producer = current.producer()
        if producer is None:
            return True  # an input
        if producer.op_type not in _SHAPES:
            pending += producer.inputs
    return False
