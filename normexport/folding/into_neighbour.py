"""Into a per-channel map that had to stay where it is: an earlier norm's Mul, Add or BatchNormalization.

A norm behind such a node merges with it: A*(x + c) + B = A*x + (A*c + B), A*(c*x) = (A*c)*x, and a
BatchNormalization with scale g and bias h gets A*g and A*h + B. For an Add the scale goes on to what is before it;
a Mul has no place for a shift.

Refuses: constants that are not one value per channel, and what lies before an Add refusing the scale.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.folding import add
from normexport.folding.edits import Absorb, Rewrite, constant_edit, together
from normexport.folding.graph import Draft
from normexport.folding.into_producer import fitted
from normexport.folding.operands import Operands, operands
from normexport.folding.per_channel import PerChannel, Vector
from normexport.folding.readers import read_batchnorm
from normexport.graphs.nodes import label, required
from normexport.graphs.refusal import Refuse

RULE = "merge"


def into_batchnorm(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """BatchNormalization at inference: scale and bias take the map."""
    kept = read_batchnorm(node, draft)
    norm = fitted(node, kept.map.channels, 1, norm)
    rewrites = []
    for index, shift in ((1, 0.0), (2, norm.b)):
        value = required(node, index)
        new = norm.a * draft.constants.array(value) + shift
        rewrites.append(constant_edit(node, index, new, np.arange(norm.channels), value, value.name or "", draft))
    return together(RULE, f"merged into {label(node)}", rewrites)


def into_add(node: ir.Node, norm: PerChannel, draft: Draft, onward: Absorb) -> Rewrite:
    """Add or Sub of a constant per channel: the constant takes A and B. Any other Add is a sum of branches."""
    found = operands(node, draft)
    if found is None:
        return add.into_branches(node, norm, draft, onward)
    # x - c is the one place where the constant enters with a minus sign.
    shift = -norm.b if node.op_type == "Sub" and found.data == 0 else norm.b
    rewrites = [_with_constant(node, found, norm, shift, draft)]
    if norm.scales:
        rewrites.append(onward(required(node, found.data), norm.scaling()))
    return together(RULE, f"merged into {label(node)}", rewrites)


def into_mul(node: ir.Node, norm: PerChannel, draft: Draft, _: Absorb) -> Rewrite:
    """Mul by a constant per channel: the constant becomes A*c."""
    found = operands(node, draft)
    if found is None:
        raise Refuse(f"{label(node)} stands before the norm, and is not a constant scale per channel")
    if norm.shifts:
        raise Refuse(f"{label(node)} is a scale with no place for the norm's shift")
    rewrite = _with_constant(node, found, norm, norm.b, draft)
    return rewrite.under(RULE, f"merged into {label(node)}")


def _with_constant(node: ir.Node, found: Operands, norm: PerChannel, shift: Vector, draft: Draft) -> Rewrite:
    """The node with A*c + shift for its constant c; one value for all channels becomes one per channel if need be."""
    rank = draft.shapes.rank(required(node, found.data))
    assert rank is not None  # `operands` told the channel axis by it
    axis = found.axis if norm.channels == 1 else norm.axis
    if not found.lies_on(axis):
        raise Refuse(f"the constant of {label(node)} lies along axis {found.axis}, the norm is on axis {axis}")
    size = draft.shapes.size(required(node, found.data), axis)
    if not {norm.channels, len(found.values)} <= {1, size}:
        raise Refuse(f"{label(node)} has {size or 'an unknown number of'} channels where the norm has {norm.channels}")
    array = norm.a * found.values + shift
    shape = (-1,) + (1,) * (rank - axis - 1)
    old = required(node, found.constant)
    index = np.arange(len(array)).reshape(shape)
    return constant_edit(node, found.constant, array.reshape(shape), index, old, old.name or "", draft)
