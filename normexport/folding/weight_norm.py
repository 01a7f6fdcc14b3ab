"""Bounded weight norm of constants becomes a plain weight, before anything else is folded.

W = rho * V / ||V||_p in float64, as `normexport.norms.weight` has it. The weight keeps the name of the node's output.

Refuses: V or rho that are not constant, rho that does not broadcast, p that is not positive, and a slice of V whose
norm is zero or not a number (by index).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.folding.edits import float_type
from normexport.folding.graph import Draft
from normexport.folding.outcomes import Log
from normexport.folding.per_channel import Array, indices
from normexport.folding.runs import OriginalNorm
from normexport.graphs.node_metadata import module_path
from normexport.graphs.nodes import label, name_of, op, required
from normexport.graphs.refusal import Refuse
from normexport.norms import DOMAIN
from normexport.norms.weight import slice_norms
from normexport.text import bracketed

RULE = "weight_norm"
OPERATOR = f"{DOMAIN}::BoundedWeightNorm"


def resolve(draft: Draft, log: Log) -> bool:
    """Replace every BoundedWeightNorm of constants; whether there was one."""
    changed = False
    for node in list(draft.graph):
        if op(node) == OPERATOR:
            changed |= _resolve_one(node, draft, log)
    return changed


def _resolve_one(node: ir.Node, draft: Draft, log: Log) -> bool:
    norm = OriginalNorm(name_of(node), module_path(node), "weight")
    try:
        weight = _weight(node, draft)
    except Refuse as refusal:
        log.decide(norm, "live", "", refusal.reason)
        return False
    readers = tuple(dict.fromkeys(name_of(use.node) for use in node.outputs[0].uses()))
    draft.replace_with_constant(node, weight, float_type(required(node, 0), draft))
    log.decide(norm, "folded", RULE, f"computed once: {label(node)} of constants", readers)
    return True


def _weight(node: ir.Node, draft: Draft) -> Array:
    v, rho = (draft.constants.array(required(node, index)) for index in (0, 1))
    float_type(required(node, 0), draft)
    axis, p = node.attributes.get_int("axis", 0), node.attributes.get_float("p", 2.0)
    if not p > 0.0 or v.size == 0:
        raise Refuse(f"{label(node)} has p = {p:g}" if v.size else f"'{required(node, 0).name}' is empty")
    if not _broadcasts(rho.shape, v.shape):
        raise Refuse(
            f"'{required(node, 1).name}' {rho.shape} does not broadcast to '{required(node, 0).name}' {v.shape}"
        )
    size = slice_norms(v, axis, p)
    bad = indices(~np.isfinite(size) | (size == 0.0))
    if bad:
        raise Refuse(f"the norm of '{required(node, 0).name}' is zero or not a number at {bracketed(bad)}")
    return np.asarray(rho * v / size)


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    behind = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in zip(shape, behind, strict=True))
