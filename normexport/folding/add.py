"""Through a sum of two branches: A*(u + v) + B = (A*u + B) + (A*v), so A goes both ways and B once.

Refuses: a constant operand that is not per channel, branches that broadcast against each other on axis 1 or by
rank, a branch that can't take its part (all or none).
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.folding.edits import Absorb, Rewrite, together
from normexport.folding.graph import Draft
from normexport.folding.per_channel import PerChannel
from normexport.graphs.nodes import label, required
from normexport.graphs.refusal import Refuse

RULE = "add"


def into_branches(node: ir.Node, norm: PerChannel, draft: Draft, onward: Absorb) -> Rewrite:
    """The rewrites of both branches; the first carries the shift."""
    constant = next((each for each in node.inputs if each is not None and each in draft.constants), None)
    if constant is not None:
        form = f"one value per channel (axis {norm.axis})"
        raise Refuse(f"{label(node)} reads the constant '{constant.name}', which is not {form}")
    if node.op_type != "Add":
        raise Refuse(f"{label(node)} stands before the norm, and a map per channel does not pass through it")
    branches = [required(node, 0), required(node, 1)]
    rank = draft.shapes.rank(node.outputs[0])
    for branch in branches:
        if rank is None or draft.shapes.rank(branch) != rank:
            raise Refuse(f"the ranks of '{branch.name}' and of the output of {label(node)} differ or are unknown")
        channels = draft.shapes.size(branch, norm.axis)
        if norm.channels not in (1, channels):
            raise Refuse(f"'{branch.name}' has {channels} channels at {label(node)}, the norm {norm.channels}")
    rewrites = [onward(branches[0], norm), onward(branches[1], norm.scaling())]
    return together(RULE, f"scaled into both branches of {label(node)}", rewrites)
