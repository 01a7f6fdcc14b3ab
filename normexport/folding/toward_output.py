"""Towards the output: whether everything that reads a norm's output can take the norm in.

The map starts at the norm's output. Convolutions and linear layers end it; pools, padding and flattening change
places with it and hand it on; ways that meet in a Concat go on as one. One reader that refuses refuses for all, for the
norm would have to stay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import onnx_ir as ir

from normexport.folding import concat, copies, into_consumer, layout, passthrough, pool, product, shuffles
from normexport.folding.edits import Retire, Rewrite, together
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


def push(value: ir.Value, norm: PerChannel, draft: Draft) -> Rewrite:
    """A rewrite after which every reader of `value` computes from x what it now computes from `value` = norm(x).

    Raises:
        Refuse: the value is a graph output, nothing reads it, or a reader can't take the map in exactly.
    """
    return _Spread(draft).run(value, norm)


class _Spread:
    """One map on its ways to the layers that take it in. Ways that meet in a Concat go on from there as one."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.rewrites: list[Rewrite] = []
        self.between: list[ir.Value] = []
        self.joints: dict[ir.Node, _Joint] = {}

    def run(self, value: ir.Value, norm: PerChannel) -> Rewrite:
        """All ways to their ends."""
        self._spread(value, norm, ())
        while self.joints:
            node = self._first_joint()
            joint = self.joints.pop(node)
            behind = concat.map_behind(node, joint.arrived, self.draft)
            self._hand_on(node.outputs[0], behind, (*joint.trail, label(node)))
        reason = "; ".join(rewrite.reason for rewrite in self.rewrites)
        rewrite = together(into_consumer.RULE, reason, self.rewrites)
        return rewrite.under(into_consumer.RULE, reason, *(Retire(value) for value in self.between))

    def _first_joint(self) -> ir.Node:
        """Of the Concats that wait for more, one to which no other leads."""
        if len(self.joints) == 1:
            return next(iter(self.joints))
        return next(node for node in self.draft.graph if node in self.joints)

    def _spread(self, value: ir.Value, norm: PerChannel, trail: tuple[str, ...]) -> None:
        """Every reader of a value, which is reached by the nodes of the trail."""
        if value.is_graph_output():
            raise Refuse(f"'{value.name}' is a graph output")
        uses = readers(value)
        if not uses:
            raise Refuse(f"nothing reads '{value.name}'")
        for use in uses:
            self._read(use.node, use.idx, norm, trail)

    def _hand_on(self, value: ir.Value, norm: PerChannel, trail: tuple[str, ...]) -> None:
        self.between.append(value)
        self._spread(value, norm, trail)

    def _read(self, node: ir.Node, index: int, norm: PerChannel, trail: tuple[str, ...]) -> None:
        draft, name = self.draft, op(node)
        if node.graph is not draft.graph:
            raise Refuse(f"a subgraph reads it ({label(node)})")
        if len(trail) > _DEPTH:
            raise Refuse(f"more than {_DEPTH} nodes lie between the norm and {label(node)}")
        if name == "Concat":
            self.joints.setdefault(node, _Joint(trail)).arrived[index] = norm
        elif product.is_product(node, draft):
            self._end(product.into_before(node, index, norm, draft), trail)
        elif index != 0:
            raise Refuse(f"{label(node)} reads it as operand {index}")
        elif name in _CONSUMERS:
            self._end(_CONSUMERS[name](node, norm, draft), trail)
        elif name == "Split":
            self._split(node, norm, trail)
        else:
            self._pass(node, norm, trail)

    def _pass(self, node: ir.Node, norm: PerChannel, trail: tuple[str, ...]) -> None:
        try:
            behind = _passed(node, norm, self.draft)
        except Refuse:
            shuffle = shuffles.beginning_at(node, self.draft)
            if shuffle is None:
                raise
            self.between += shuffle.between
            through = f"the channel shuffle that begins at {label(node)}"
            self._hand_on(shuffle.output, shuffle.map_behind(norm), (*trail, through))
        else:
            self._hand_on(node.outputs[0], behind, (*trail, label(node)))

    def _split(self, node: ir.Node, norm: PerChannel, trail: tuple[str, ...]) -> None:
        """Each output that is needed gets its own part."""
        for place, output in enumerate(node.outputs):
            if output.is_graph_output() or readers(output):
                self._hand_on(output, copies.map_behind(node, norm, self.draft, place), (*trail, label(node)))
            else:
                self.between.append(output)

    def _end(self, rewrite: Rewrite, trail: tuple[str, ...]) -> None:
        """A layer takes the map in."""
        reason = "".join([rewrite.reason, *(f", through {each}" for each in reversed(trail))])
        self.rewrites.append(rewrite.under(into_consumer.RULE, reason))


@dataclass
class _Joint:
    """A Concat, the first way that led to it, and the maps that have come to it, by operand."""

    trail: tuple[str, ...]
    arrived: dict[int, PerChannel] = field(default_factory=dict)


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


def _passed(node: ir.Node, norm: PerChannel, draft: Draft) -> PerChannel:
    """What the map of the node's input is of its output.

    Raises:
        Refuse: the node does not let it pass.
    """
    name = op(node)
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
