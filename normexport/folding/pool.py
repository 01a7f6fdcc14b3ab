"""Through pooling: f(A*x + B) = A*f(x) + B for a pool f, whichever side of it the norm stands on.

- Average pools, and ReduceMean over other axes than the channels': exact where the weights of every window sum to 1,
  that is without padding or with padding that is not counted.
- Max pools: exact in channels with A >= 0, where the map keeps the order. Padding is -inf and never wins.

Refuses: A < 0 before a max pool (channels named), padding that counts, means over the channels, and channels elsewhere
than on axis 1 of a pool.
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.folding.per_channel import PerChannel, indices
from normexport.graphs.nodes import label, optional, required
from normexport.graphs.refusal import Refuse
from normexport.text import bracketed

RULE = "pool"
OPERATORS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean")


def check_commutes(node: ir.Node, norm: PerChannel, draft: Draft) -> None:
    """A map per channel of the pool's input may change places with it.

    Raises:
        Refuse: it may not.
    """
    if node.op_type == "ReduceMean":
        _check_mean(node, norm, draft)
    elif not norm.is_on(1):
        raise Refuse(f"{label(node)} pools axis {norm.axis}, on which the norm's channels are")
    elif node.op_type in ("MaxPool", "GlobalMaxPool"):
        _check_max(node, norm)
    elif node.op_type == "AveragePool":
        _check_average(node)


def map_behind(node: ir.Node, norm: PerChannel, draft: Draft) -> PerChannel:
    """What the map `norm` of the pool's input is of its output: a mean may drop axes before the channels."""
    kept = _kept_axes(node, draft)
    return norm if kept is None or norm.axis not in kept else norm.along(kept.index(norm.axis))


def map_before(node: ir.Node, norm: PerChannel, draft: Draft) -> PerChannel:
    """What the map `norm` of the pool's output is of its input."""
    kept = _kept_axes(node, draft)
    return norm if kept is None or norm.axis >= len(kept) else norm.along(kept[norm.axis])


def _kept_axes(node: ir.Node, draft: Draft) -> list[int] | None:
    """The axes of the input that a mean leaves, in order; None where all axes stay."""
    rank = draft.shapes.rank(required(node, 0))
    if node.op_type != "ReduceMean" or node.attributes.get_int("keepdims", 1) != 0 or rank is None:
        return None
    gone = axes_of(node, rank, draft)
    return [axis for axis in range(rank) if axis not in gone]


def _check_max(node: ir.Node, norm: PerChannel) -> None:
    negative = indices(norm.a < 0.0)
    if negative:
        raise Refuse(f"the norm turns the order around (scale < 0) in channels {bracketed(negative)} at {label(node)}")
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        raise Refuse(f"{label(node)} also gives indices, which a scale of 0 would change")


def _check_average(node: ir.Node) -> None:
    if not node.attributes.get_int("count_include_pad", 0):
        return
    padded = any(node.attributes.get_ints("pads", ())) or _same(node)
    # In ceil mode the last window may reach past the input, and runtimes disagree on whether that part counts.
    if padded or node.attributes.get_int("ceil_mode", 0) != 0:
        raise Refuse(f"{label(node)} counts its zero padding (count_include_pad=1), where the norm's shift is missing")


def _same(node: ir.Node) -> bool:
    return node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")


def _check_mean(node: ir.Node, norm: PerChannel, draft: Draft) -> None:
    rank = draft.shapes.rank(required(node, 0))
    if rank is None:
        raise Refuse(f"the rank of '{required(node, 0).name}' ({label(node)}) is unknown")
    axes = axes_of(node, rank, draft)
    if norm.channels > 1 and (not axes or norm.axis in axes):
        over = f"axes {axes}" if axes else "all axes"
        raise Refuse(f"{label(node)} takes the mean over {over}, and the norm is on axis {norm.axis}")


def axes_of(node: ir.Node, rank: int, draft: Draft) -> list[int]:
    """The node's axes as non-negative numbers, from its attribute or constant second input; [] if not given.

    Raises:
        Refuse: the axes are computed at inference.
    """
    given = optional(node, 1)
    axes = node.attributes.get_ints("axes", ()) if given is None else draft.constants.array(given).reshape(-1)
    return [int(axis) % rank for axis in axes]
