"""Norms inside functions, and in branches and loops that could not be folded: left as they are, and told."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

import onnx_ir as ir

from normexport.folding.outcomes import Log
from normexport.folding.runs import RUNNING, OriginalNorm, kind_of
from normexport.graphs.node_metadata import module_path
from normexport.graphs.nodes import name_of, op
from normexport.norms import DOMAIN, live_ops

_STEPS = ("Div", "Mul", "Sub")


def tell(model: ir.Model, log: Log, folded: Container[ir.Graph]) -> None:
    """An outcome for every norm that stands in a graph within the main one, or in a function that is not ours.

    folded: the graphs whose norms have their outcome. Branches often call their nodes alike: of those of one name that
    stay, the first has one.
    """
    told: set[str] = set()
    for node in model.graph.all_nodes():
        if node.graph not in folded:
            _tell(node, "inside a branch or a loop", told, log)
    for function in model.functions.values():
        if function.domain != DOMAIN:
            for node in function.all_nodes():
                _tell(node, f"inside the function {function.name}", told, log)


def _tell(node: ir.Node, where: str, told: set[str], log: Log) -> None:
    is_norm = op(node) in (RUNNING, "BatchNormalization") or (node.domain == DOMAIN and node.op_type in live_ops())
    begins = is_norm or (_is_step(node) and not any(_is_step(before) for before in _producers(node.inputs)))
    if begins and name_of(node) not in told:
        told.add(name_of(node))
        norm = OriginalNorm(name_of(node), module_path(node), kind_of(node))
        log.decide(norm, "live", "", f"stands {where}, which is left as it is")


def _producers(values: Iterable[ir.Value | None]) -> Iterator[ir.Node]:
    for value in values:
        node = value.producer() if value is not None else None
        if node is not None:
            yield node


def _is_step(node: ir.Node) -> bool:
    """Whether it computes with a stored constant of the form (C, 1, 1)."""
    return op(node) in _STEPS and any(_per_channel(value) for value in node.inputs if value is not None)


def _per_channel(value: ir.Value) -> bool:
    tensor = ir.convenience.get_const_tensor(value)
    shape = () if tensor is None else tuple(int(size) for size in tensor.shape.numpy())
    return len(shape) > 2 and shape[-1] == 1 and sum(size != 1 for size in shape) == 1
