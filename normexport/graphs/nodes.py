"""Small questions about nodes and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from normexport.graphs.refusal import Refuse
from normexport.io.onnx_domain import is_onnx_domain

if TYPE_CHECKING:
    from onnx_ir._core import Usage


def op(node: ir.Node) -> str:
    """Operator name of a standard ONNX node, "domain::name" of any other."""
    return node.op_type if is_onnx_domain(node.domain) else f"{node.domain}::{node.op_type}"


def name_of(node: ir.Node) -> str:
    """The node's name; an unnamed node goes by its first output."""
    return node.name or (node.outputs[0].name if node.outputs else "") or node.op_type


def label(node: ir.Node) -> str:
    """How a reason names a node: "Conv 'conv1'"."""
    return f"{node.op_type} '{name_of(node)}'"


def required(node: ir.Node, index: int) -> ir.Value:
    """Input `index` of the node.

    Raises:
        Refuse: the input is absent.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise Refuse(f"{label(node)} has no input {index}")
    return value


def optional(node: ir.Node, index: int) -> ir.Value | None:
    """Input `index` of the node, None where it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def readers(value: ir.Value) -> list[Usage]:
    """Who reads the numbers of a value: who asks for its shape or its size alone does not mind them."""
    return [use for use in value.uses() if op(use.node) not in ("Shape", "Size")]


def check_private(value: ir.Value) -> None:
    """A value may change its meaning only if exactly one input of one node sees it.

    Raises:
        Refuse: it is a graph output, or something else reads it as well (subgraphs included).
    """
    if value.is_graph_output():
        raise Refuse(f"'{value.name}' is a graph output")
    uses = readers(value)
    if len(uses) > 1:
        names = ", ".join(dict.fromkeys(label(use.node) for use in uses))
        raise Refuse(f"'{value.name}' has more than one reader: {names}")


def drop_unread_initializers(graph: ir.Graph) -> None:
    """Take out the initializers that nothing reads; those that are inputs or outputs of the graph stay."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]
