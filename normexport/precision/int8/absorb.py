"""High biases absorbed by the layers behind: what a ReLU never has less of need not be in its tensor.

A channel whose numbers in front of a ReLU were all at least c > 0 passes it unchanged, and c can leave it:

    relu(x) = relu(x - c) + c  for x >= c,      W (y + c) + b = W y + (b + W c)

so that c is taken off the bias in front and W c added to those behind. The tensor's range is smaller by c (Nagel et al.
2019, 4.1.3).

Refuses: a result with other readers than one ReLU; readers of that ReLU other than layers with a constant weight and
bias; padding, which is of zeros, not of -c; MatMul, which has no bias. Exact as long as x stays above c: c is what was
seen, less a tenth of the channel's spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.graphs.names import Names
from normexport.graphs.nodes import label, op, readers
from normexport.graphs.refusal import Refuse
from normexport.precision.int8.corrections import why_no_shift
from normexport.precision.int8.links import Extremes
from normexport.precision.int8.pairs import LAYERS
from normexport.precision.int8.weights import Float64s, add_to_bias, by_group, stored

ROOM = 0.1  # of a channel's spread, below what was seen of it


@dataclass(frozen=True)
class Absorbed:
    """The model with biases moved, or the model itself; how many layers gave some away; why others did not."""

    model: ir.Model
    layers: int
    reasons: tuple[str, ...]


def absorb_biases(model: ir.Model, extremes: Extremes) -> Absorbed:
    """Move what channels have at least into the layers behind; the model is not changed."""
    copy = model.clone()
    fresh = Names(copy.graph).fresh
    moved, reasons = 0, []
    for node in [node for node in copy.graph if op(node) in LAYERS]:
        seen = extremes.get(str(node.outputs[0].name))
        if seen is None:
            continue
        spare = np.maximum(seen[0] - ROOM * (seen[1] - seen[0]), 0.0)
        if not spare.any():
            continue
        try:
            targets = _targets(node, len(spare))
        except Refuse as refusal:
            reasons.append(refusal.reason)
            continue
        add_to_bias(node, -spare, fresh)
        for target, weight in targets:
            groups, _, read, _ = weight.shape
            add_to_bias(target, (weight.sum(axis=3) @ spare.reshape(groups, read, 1)).reshape(-1), fresh)
        moved += 1
    return Absorbed(copy if moved else model, moved, tuple(reasons))


def _targets(node: ir.Node, channels: int) -> list[tuple[ir.Node, Float64s]]:
    """The layers that read this one through a ReLU, with their weights (`by_group`).

    Raises:
        Refuse: something else reads it, or a layer that can't take a constant.
    """
    result = node.outputs[0]
    if why := why_no_shift(node):
        raise Refuse(why)
    uses = readers(result)
    if result.is_graph_output() or len(uses) != 1 or op(uses[0].node) != "Relu":
        raise Refuse(f"'{result.name}' has other readers than one ReLU")
    passed = uses[0].node.outputs[0]
    found = []
    for use in readers(passed):
        weight = stored(use.node.inputs[1]) if op(use.node) in LAYERS and use.idx == 0 else None
        grouped = None if weight is None else by_group(use.node, weight)
        if grouped is None or grouped.shape[0] * grouped.shape[2] != channels:
            raise Refuse(f"{label(use.node)} reads '{passed.name}'")
        found.append((use.node, grouped))
        if why := why_no_shift(use.node):
            raise Refuse(why)
        if op(use.node) == "ConvTranspose" or _is_padded(use.node) or use.node.attributes.get_int("transA", 0) != 0:
            raise Refuse(f"{label(use.node)} does not read each channel everywhere")
    if passed.is_graph_output() or not found:
        raise Refuse(f"'{passed.name}' is an output of the graph")
    return found


def _is_padded(node: ir.Node) -> bool:
    return any(node.attributes.get_ints("pads", ())) or node.attributes.get_string("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    )
