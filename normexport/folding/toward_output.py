"""Towards the output: whether everything that reads a norm's output can take the norm in.

The map starts at the norm's output. Convolutions and linear layers end it; pools, padding and flattening change
places with it and hand it on. One reader that refuses refuses for all, for the norm would have to stay for it.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from normexport.folding import flatten, into_consumer, passthrough, pool
from normexport.folding.edits import Retire, Rewrite, together
from normexport.folding.graph import Draft
from normexport.folding.per_channel import PerChannel
from normexport.graphs.nodes import label, op
from normexport.graphs.refusal import Refuse

_DEPTH = 60

_CONSUMERS: dict[str, Callable[[ir.Node, PerChannel, Draft], Rewrite]] = {
    "Conv": into_consumer.into_conv,
    "ConvTranspose": into_consumer.into_conv_transpose,
    "Gemm": into_consumer.into_gemm,
    "MatMul": into_consumer.into_matmul,
}


def push(value: ir.Value, norm: PerChannel, draft: Draft, depth: int = 0) -> Rewrite:
    """A rewrite after which every reader of `value` computes from x what it now computes from `value` = norm(x).

    Raises:
        Refuse: the value is a graph output, nothing reads it, or a reader can't take the map in exactly.
    """
    if value.is_graph_output():
        raise Refuse(f"'{value.name}' is a graph output")
    if not value.uses():
        raise Refuse(f"nothing reads '{value.name}'")
    rewrites = [_reader(use.node, use.idx, norm, draft, depth) for use in value.uses()]
    return together(into_consumer.RULE, "; ".join(rewrite.reason for rewrite in rewrites), rewrites)


def _reader(node: ir.Node, index: int, norm: PerChannel, draft: Draft, depth: int) -> Rewrite:
    if node.graph is not draft.graph:
        raise Refuse(f"a subgraph reads it ({label(node)})")
    if depth > _DEPTH:
        raise Refuse(f"more than {_DEPTH} nodes lie between the norm and {label(node)}")
    name = op(node)
    if index != 0:
        raise Refuse(f"{label(node)} reads it as operand {index}")
    if name in _CONSUMERS:
        return _CONSUMERS[name](node, norm, draft)
    if name in flatten.OPERATORS:
        behind = flatten.flatten_map(node, norm, draft)
    elif name in (*pool.OPERATORS, *passthrough.OPERATORS):
        rule = pool if name in pool.OPERATORS else passthrough
        rule.check_commutes(node, norm, draft)
        behind = norm
    else:
        raise Refuse(f"{label(node)} reads it, and a map per channel does not pass through it")
    rewrite = push(node.outputs[0], behind, draft, depth + 1)
    return rewrite.under(into_consumer.RULE, f"{rewrite.reason}, through {label(node)}", Retire(node.outputs[0]))
