"""Towards the input: who can make a value already hold `A*x + B`.

The map starts at the norm's input and walks to whatever produces it. Each kind of producer has its rule; a rule
that has branches, or that only changes places with the map, asks for what lies behind it through `onward`.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from normexport.folding import (
    concat,
    copies,
    into_neighbour,
    into_producer,
    layout,
    passthrough,
    pool,
    product,
    shuffles,
)
from normexport.folding.edits import Absorb, Retire, RetireInput, Rewrite
from normexport.folding.graph import Draft
from normexport.folding.no_ops import is_no_op
from normexport.folding.per_channel import PerChannel
from normexport.graphs.nodes import check_private, label, op, readers, required
from normexport.graphs.refusal import Refuse

# Deeper towers of sums or pools than this do not occur, and Python's stack is finite.
_DEPTH = 60

_PRODUCERS: dict[str, Callable[[ir.Node, PerChannel, Draft], Rewrite]] = {
    "Conv": into_producer.into_conv,
    "ConvTranspose": into_producer.into_conv_transpose,
    "Gemm": into_producer.into_gemm,
    "MatMul": into_producer.into_matmul,
    "BatchNormalization": into_neighbour.into_batchnorm,
}
_BRANCHES: dict[str, Callable[[ir.Node, PerChannel, Draft, Absorb], Rewrite]] = {
    "Add": into_neighbour.into_add,
    "Concat": concat.into_branches,
    "Mul": into_neighbour.into_mul,
    "Sub": into_neighbour.into_add,
    "Sum": into_neighbour.into_add,
}


def absorb(value: ir.Value, norm: PerChannel, draft: Draft, depth: int = 0) -> Rewrite:
    """A rewrite after which `value` holds norm(what it holds now); its new name is for the caller to choose.

    Raises:
        Refuse: someone else reads the value, or what produces it can't take the map in exactly.
    """
    check_private(value)
    if value in draft.constants:
        raise Refuse(f"'{value.name}' is itself a constant")
    node = value.producer()
    if node is None:
        raise Refuse(f"nothing before the norm can take it: {draft.constants.why_not(value)}")
    if depth > _DEPTH:
        raise Refuse(f"more than {_DEPTH} nodes lie between the norm and {label(node)}")

    def onward(before: ir.Value, part: PerChannel) -> Rewrite:
        rewrite = absorb(before, part, draft, depth + 1)
        (reader,) = readers(before)  # the only one, or `absorb` would have refused
        return rewrite.under(rewrite.rule, rewrite.reason, RetireInput(reader.node, reader.idx))

    return _dispatch(node, value.index() or 0, norm, draft, onward)


def takes_in(value: ir.Value) -> bool:
    """Whether a layer, or a norm that had to stay, makes the value, be it laid out or copied otherwise."""
    node = value.producer()
    for _ in range(_DEPTH):
        if node is None or op(node) not in (*layout.OPERATORS, *copies.OPERATORS):
            break
        before = node.inputs[0]
        node = before.producer() if before is not None else None
    return node is not None and op(node) in (*_PRODUCERS, "Einsum")


def _dispatch(node: ir.Node, output: int, norm: PerChannel, draft: Draft, onward: Absorb) -> Rewrite:
    name = op(node)
    if output and name != "Split":
        raise Refuse(f"the norm is of output {output} of {label(node)}")
    if product.is_product(node, draft):
        return product.into_behind(node, norm, draft)
    if name in _PRODUCERS:
        return _PRODUCERS[name](node, norm, draft)
    if name in _BRANCHES:
        return _BRANCHES[name](node, norm, draft, onward)
    try:
        rule, before = _passed(node, output, norm, draft)
    except Refuse:
        shuffle = shuffles.ending_at(node, draft)
        if shuffle is None:
            raise
        for between in shuffle.between:
            check_private(between)
        rewrite = onward(shuffle.input, shuffle.map_before(norm))
        reason = f"{rewrite.reason}, through the channel shuffle that ends at {label(node)}"
        return rewrite.under(layout.RULE, reason, *(Retire(between) for between in shuffle.between))
    rewrite = onward(required(node, 0), before)
    return rewrite.under(rule, f"{rewrite.reason}, through {label(node)}")


def _passed(node: ir.Node, output: int, norm: PerChannel, draft: Draft) -> tuple[str, PerChannel]:
    """The rule by which a map changes places with the node, and what it is before it.

    Raises:
        Refuse: it does not.
    """
    name = op(node)
    if name in pool.OPERATORS:
        before = pool.map_before(node, norm, draft)
        pool.check_commutes(node, before, draft)
        return pool.RULE, before
    if name in layout.OPERATORS:
        return layout.RULE, layout.map_before(node, norm, draft)
    if is_no_op(node, draft):
        return passthrough.RULE, norm
    if name in copies.OPERATORS:
        return copies.RULE, copies.map_before(node, norm, draft, output)
    if name in passthrough.OPERATORS:
        passthrough.check_commutes(node, norm, draft)
        return passthrough.RULE, norm
    raise Refuse(why_not(node))


def why_not(node: ir.Node) -> str:
    """Why no map passes this node, in words."""
    name = op(node)
    if name in ("QuantizeLinear", "DequantizeLinear"):
        return f"fake-quantisation stands before the norm ({label(node)}); fold before quantising"
    if name == "Cast":
        return f"{label(node)} changes the type before the norm: the rounding would change place"
    return f"{label(node)} stands before the norm, and a map per channel does not pass through it"
