"""What is certain of all calls of an operator of this domain in a model.

Runtimes hold what is fed to the ranks that inputs declare; a shape that a file notes elsewhere is somebody's word. A
body for one kind of call (`fitted_function`) is right only where every call is certain to be of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from normexport.graphs.shapes import Shapes
from normexport.norms.function import DOMAIN


@dataclass(frozen=True)
class Calls:
    """What all calls of an operator have in common.

    Attributes:
        rank: axes of X.
        corrected: whether each says its constant itself, by an attribute `correction` that is not 0.
    """

    rank: int
    corrected: bool

    def are_served_by(self, fitted: Calls) -> bool:
        """Whether a body that is right for calls like `fitted` is right for these."""
        return self.rank == fitted.rank and (self.corrected or not fitted.corrected)


def calls_in(model: ir.Model) -> dict[str, Calls | None]:
    """Operators of this domain with what is certain of their calls; None where two have other ranks, or one is unknown.

    Nothing is certain of a call within a subgraph or a function.
    """
    main = [node for node in model.graph if node.domain == DOMAIN]
    inside = [node for each in model.functions.values() for node in each.all_nodes() if node.domain == DOMAIN]
    inside += [node for node in model.graph.all_nodes() if node.domain == DOMAIN and node.graph is not model.graph]
    found: dict[str, Calls | None] = {}
    ranks = _certain_ranks(model) if main else {}
    for node in main:
        read = node.inputs[0] if node.inputs else None
        rank = None if read is None else ranks.get(str(read.name))
        here = None if rank is None else Calls(rank, _is_corrected(node))
        found[node.op_type] = _common(found[node.op_type], here) if node.op_type in found else here
    return {**found, **dict.fromkeys((node.op_type for node in inside), None)}


def _common(one: Calls | None, other: Calls | None) -> Calls | None:
    if one is None or other is None or one.rank != other.rank:
        return None
    return Calls(one.rank, one.corrected and other.corrected)


def _is_corrected(node: ir.Node) -> bool:
    given = node.attributes.get("correction")
    if not isinstance(given, ir.Attr) or given.is_ref() or given.type != ir.AttributeType.FLOAT:
        return False
    return math.isfinite(given.value) and given.value != 0


def _certain_ranks(model: ir.Model) -> dict[str, int]:
    """By name, the ranks of the values that our operators read, where they follow from the graph's inputs."""
    copy = model.clone()
    for key in [key for key in copy.functions if key[0] == DOMAIN]:
        del copy.functions[key]
    for value in [value for node in copy.graph for value in node.outputs]:
        value.shape = None
    read = []
    for node in copy.graph:
        if node.domain == DOMAIN and node.inputs and node.inputs[0] is not None:
            # Each of our operators makes what has the shape of the first that it reads, whatever body serves it.
            read.append(node.inputs[0])
            node.resize_inputs(1)
            node.attributes.clear()
            node.domain, node.op_type = "", "Identity"
    shapes = Shapes(copy)
    ranks = {str(value.name): shapes.rank(value) for value in read}
    return {name: rank for name, rank in ranks.items() if rank is not None}
