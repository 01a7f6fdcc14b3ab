"""Through nodes that hand their input on: Identity, Dropout at inference, and padding that repeats the tensor.

- Identity and Dropout outside training: y = x.
- Pad in modes reflect, edge and wrap copies elements of the same channel, so A*pad(x) + B = pad(A*x + B). In
  mode constant the border holds a value v the norm does not see: exact only where A*v + B = v in every channel.

Refuses: Dropout in training mode, padding of the batch or of channels, constant padding that the norm moves.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.folding.per_channel import PerChannel
from normexport.graphs.nodes import label, optional, required
from normexport.graphs.refusal import Refuse

RULE = "through"
OPERATORS = ("Dropout", "Identity", "Pad")


def check_commutes(node: ir.Node, norm: PerChannel, draft: Draft) -> None:
    """A map per channel may change places with this node.

    Raises:
        Refuse: it may not.
    """
    if node.op_type == "Dropout":
        _check_dropout(node, draft)
    elif node.op_type == "Pad":
        _check_pad(node, norm, draft)


def _check_dropout(node: ir.Node, draft: Draft) -> None:
    mode = optional(node, 2)
    if mode is not None and bool(np.any(draft.constants.array(mode))):
        raise Refuse(f"{label(node)} is in training mode")


def _check_pad(node: ir.Node, norm: PerChannel, draft: Draft) -> None:
    if draft.opset < 11:
        raise Refuse(f"{label(node)} keeps its padding in attributes (opset {draft.opset})")
    pads = draft.constants.array(required(node, 1)).reshape(2, -1)
    if optional(node, 3) is not None:
        rank = draft.shapes.rank(required(node, 0))
        if rank is None:
            raise Refuse(f"the rank of '{required(node, 0).name}' ({label(node)}) is unknown")
        axes = [int(axis) % rank for axis in draft.constants.array(optional(node, 3)).reshape(-1)]
    else:
        axes = list(range(pads.shape[1]))
    if any(np.any(pads[:, i]) for i, axis in enumerate(axes) if axis in (0, norm.axis)):
        raise Refuse(f"{label(node)} pads the batch or the channels")
    if node.attributes.get_string("mode", "constant") == "constant" and np.any(pads > 0):
        _check_border(node, norm, draft)


def _check_border(node: ir.Node, norm: PerChannel, draft: Draft) -> None:
    given = optional(node, 2)
    border = 0.0 if given is None else float(draft.constants.array(given).reshape(-1)[0])
    if np.any(norm.a * border + norm.b != border):
        raise Refuse(f"the border that {label(node)} fills with {border:g} would not be what the norm makes of it")
