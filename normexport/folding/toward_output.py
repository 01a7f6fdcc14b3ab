"""Towards the output: whether everything that reads a norm's output can take the norm in.

The map starts at the norm's output. Convolutions and linear layers end it; pools, padding and flattening change
places with it and hand it on. One reader that refuses refuses for all, for the norm would have to stay for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import onnx_ir as ir

from normexport.folding import concat, copies, into_consumer, layout, passthrough, pool, product
from normexport.folding.edits import Retire, Rewrite, SetConstant, together
from normexport.folding.graph import Draft
from normexport.folding.no_ops import is_no_op
from normexport.folding.per_channel import PerChannel
from normexport.graphs.nodes import label, op, readers
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
    uses = readers(value)
    if not uses:
        raise Refuse(f"nothing reads '{value.name}'")
    rewrites = [_reader(use.node, use.idx, norm, draft, depth) for use in uses]
    rewrite = together(into_consumer.RULE, "; ".join(rewrite.reason for rewrite in rewrites), rewrites)
    _check_apart(rewrite)
    return rewrite


def _check_apart(rewrite: Rewrite) -> None:
    """Whether no layer is reached by several ways that meet in a Concat before it: each would forget the others."""
    taken = Counter((edit.node, edit.index) for edit in rewrite.edits if isinstance(edit, SetConstant))
    for (node, _), count in taken.items():
        if count > 1:
            raise Refuse(f"several ways lead from it to {label(node)}")


def check_not_dequantised(value: ir.Value) -> None:
    """Refuse to bring a layer right behind a DequantizeLinear.

    Where a QuantizeLinear reads the layer, ONNX Runtime 1.32 rounds its float weights to int8, one scale for all of
    them, without being asked: a small MobileNet was 1.6e-2 off by that.
    """
    node = value.producer()
    if node is not None and op(node) == "DequantizeLinear":
        raise Refuse(
            f"{label(node)} stands before the norm: ONNX Runtime rounds the weights of a layer right behind it"
        )


def all_take_in(value: ir.Value) -> bool:
    """Whether layers alone read the value."""
    uses = readers(value)
    return bool(uses) and all(op(use.node) in (*_CONSUMERS, "Einsum") for use in uses)


def _reader(node: ir.Node, index: int, norm: PerChannel, draft: Draft, depth: int) -> Rewrite:
    if node.graph is not draft.graph:
        raise Refuse(f"a subgraph reads it ({label(node)})")
    if depth > _DEPTH:
        raise Refuse(f"more than {_DEPTH} nodes lie between the norm and {label(node)}")
    name = op(node)
    if product.is_product(node, draft):
        return product.into_before(node, index, norm, draft)
    if index != 0 and name != "Concat":
        raise Refuse(f"{label(node)} reads it as operand {index}")
    if name in _CONSUMERS:
        return _CONSUMERS[name](node, norm, draft)
    rewrite = push(node.outputs[0], _passed(node, index, norm, draft), draft, depth + 1)
    return rewrite.under(into_consumer.RULE, f"{rewrite.reason}, through {label(node)}", Retire(node.outputs[0]))


def _passed(node: ir.Node, index: int, norm: PerChannel, draft: Draft) -> PerChannel:
    """What the map of the node's input is of its output.

    Raises:
        Refuse: the node does not let it pass.
    """
    name = op(node)
    if name == "Concat":
        return concat.map_behind(node, index, norm, draft)
    if name in layout.OPERATORS:
        return layout.map_behind(node, norm, draft)
    if name in pool.OPERATORS:
        pool.check_commutes(node, norm, draft)
        return pool.map_behind(node, norm, draft)
    if is_no_op(node, draft):
        return norm
    if name in copies.OPERATORS:
        return copies.map_behind(node, norm, draft)
    if name in passthrough.OPERATORS:
        passthrough.check_commutes(node, norm, draft)
        return norm
    raise Refuse(f"{label(node)} reads it, and a map per channel does not pass through it")
