"""The scale and shift of a layer norm or RMS norm in ordinary operators, which stay where they are.

Runtimes compute such a norm in one operator where they find it whole: x minus its mean over the last axes, divided by
the root of its mean square, times a scale, plus a shift. Taking the last two away is exact, and slower.
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.folding.per_channel import PerChannel
from normexport.graphs.nodes import label, op, optional
from normexport.graphs.refusal import Refuse

_MEANS = ("ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare")
#: What stands between a mean square and the division: epsilon, the root, its reciprocal.
_ON_THE_WAY = ("Add", "Cast", "Clip", "Div", "Identity", "Max", "Mul", "Pow", "Reciprocal", "Sqrt")
_STEPS = 8


def check_apart(value: ir.Value, map: PerChannel, draft: Draft) -> None:
    """A map of a value may move away from it.

    Raises:
        Refuse: the value was divided by what was reduced over the map's axis.
    """
    node = value.producer()
    if node is None or op(node) not in ("Div", "Mul") or any(each in draft.constants for each in node.inputs):
        return
    rank = draft.shapes.rank(value)
    for divisor in node.inputs[1:] if op(node) == "Div" else node.inputs:
        reduction = _reduction_behind(divisor, draft)
        axes = _axes(reduction, rank, draft) if reduction is not None else set()
        if map.axis in axes or (axes and map.channels == 1):
            raise Refuse(f"it belongs to the layer norm that {label(node)} is part of, which runtimes compute in one")


def _reduction_behind(value: ir.Value | None, draft: Draft) -> ir.Node | None:
    """The mean, sum or norm that a value follows from by arithmetic with constants alone."""
    for _ in range(_STEPS):
        node = value.producer() if value is not None else None
        if node is None or op(node) in _MEANS:
            return node
        if op(node) not in _ON_THE_WAY:
            return None
        computed = [each for each in node.inputs if each is not None and each not in draft.constants]
        if len(computed) != 1:
            return None
        value = computed[0]
    return None


def _axes(node: ir.Node, rank: int | None, draft: Draft) -> set[int]:
    """The axes that are reduced, counted from the front; none where they are not known."""
    given, stored = node.attributes.get("axes"), optional(node, 1)
    if rank is None:
        return set()
    if given is not None:
        return {int(axis) % rank for axis in given.as_ints()}
    if stored is None:
        return set(range(rank))
    if stored not in draft.constants:
        return set()
    return {int(axis) % rank for axis in draft.constants.array(stored).reshape(-1)}
