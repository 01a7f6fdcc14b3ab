"""Into the convolutions or linear layers that read the norm's output.

With y = A*x + B and z = W*y + c:
    W' = W*A  along the input channels,   c' = c + W*B  (B summed over everything the weight covers).
Exact for a convolution only where the weight covers B everywhere: with zero padding the border of y is 0, not B,
and the result is wrong there by about half the signal. Pure scales (B = 0) are exact under zero padding too.

Refuses: zero padding with B != 0, a ConvTranspose with B != 0 (positions are covered unequally), weights that are
not constant or are shared, linear layers on another axis than the norm's, operands other than the layer's input.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.folding.edits import Retire, Rewrite, constant_edit, together
from normexport.folding.graph import Draft
from normexport.folding.into_producer import (
    bias_plan,
    fitted,
    gemm_bias,
    grouped_weight,
    last_axis,
    matrix,
    with_shift,
)
from normexport.folding.operands import operands
from normexport.folding.per_channel import Array, PerChannel, Vector
from normexport.graphs.nodes import label, required
from normexport.graphs.refusal import Refuse

RULE = "consumer"


def into_conv(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """Conv: W (M, C/g, *k); row m reads channels j*C/g .. of its group j = m // (M/g)."""
    weight, groups = grouped_weight(node, draft)
    rows, per_group = weight.shape[:2]
    norm = fitted(node, groups * per_group, 1, norm)
    if norm.shifts:
        _check_unpadded(node, weight.shape[2:])

    def by_row(values: Array) -> Array:
        spread = np.repeat(values.reshape(groups, per_group), rows // groups, axis=0)
        return spread.reshape(rows, per_group, *(1,) * (weight.ndim - 2))

    shift = np.sum(weight * by_row(norm.b), axis=tuple(range(1, weight.ndim)))
    return _scale_weight(node, weight * by_row(norm.a), by_row(np.arange(norm.channels)), shift, draft)


def into_conv_transpose(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """ConvTranspose: W (C, M/g, *k), input channel c in row c; pure scales only."""
    weight, _ = grouped_weight(node, draft)
    norm = fitted(node, weight.shape[0], 1, norm)
    if norm.shifts:
        raise Refuse(f"{label(node)} covers its positions unequally, so the norm's shift would not be a constant")
    shape = (-1,) + (1,) * (weight.ndim - 1)
    index = np.arange(norm.channels).reshape(shape)
    return _scale_weight(node, weight * norm.a.reshape(shape), index, None, draft)


def into_gemm(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """Gemm: alpha*y@op(W) + beta*C: rows of op(W) scale by A, and alpha*B@op(W) joins beta*C."""
    if node.attributes.get_int("transA", 0):
        raise Refuse(f"{label(node)} transposes its input (transA=1): the norm's axis is summed over as the batch")
    value = required(node, 1)
    weight = matrix(node, draft)
    transposed = bool(node.attributes.get_int("transB", 0))
    rows = weight.T if transposed else weight
    norm = fitted(node, rows.shape[0], 1, norm)
    shape = (1, -1) if transposed else (-1, 1)
    index = np.arange(norm.channels).reshape(shape)
    shift = node.attributes.get_float("alpha", 1.0) * (norm.b @ rows)
    rewrites = [constant_edit(node, 1, weight * norm.a.reshape(shape), index, value, value.name or "", draft)]
    rewrites += gemm_bias(node, np.ones_like(shift), shift, draft)
    return together(RULE, f"folded forward into {label(node)}", rewrites)


def into_matmul(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """MatMul of y (*, C) with W (C, M): rows of W scale by A, and B@W joins the bias Add behind, or gets one."""
    axis = last_axis(node, draft.shapes.rank(required(node, 0)))
    value = required(node, 1)
    weight = matrix(node, draft)
    norm = fitted(node, weight.shape[0], axis, norm)
    shift = norm.b @ weight
    index = np.arange(norm.channels).reshape(-1, 1)
    rewrites = [constant_edit(node, 1, weight * norm.a.reshape(-1, 1), index, value, value.name or "", draft)]
    joined = _into_bias_add(node, shift, draft) if np.any(shift) else None
    rewrite = with_shift(node, shift, rewrites, draft) if joined is None else together("", "", [*rewrites, joined])
    return rewrite.under(RULE, f"folded forward into {label(node)}")


def _into_bias_add(node: ir.Node, shift: Vector, draft: Draft) -> Rewrite | None:
    """A rewrite that adds `shift` to the bias Add right behind a MatMul, None where there is none of its own."""
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    add = uses[0].node
    found = operands(add, draft) if add.graph is draft.graph else None
    if found is None or not found.lies_on(last_axis(node, draft.shapes.rank(output))):
        return None
    if len(found.values) not in (1, len(shift)):
        raise Refuse(f"{label(add)} adds {len(found.values)} numbers to the {len(shift)} columns of {label(node)}")
    old = required(add, found.constant)
    rewrite = constant_edit(
        add, found.constant, found.values + shift, np.arange(len(shift)), old, old.name or "", draft
    )
    return rewrite.under("", "", Retire(output))


def _check_unpadded(node: ir.Node, kernel: tuple[int, ...]) -> None:
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    same = mode.startswith("SAME") and any(size != 1 for size in kernel)
    padded = mode == "NOTSET" and any(node.attributes.get_ints("pads", ()))
    if same or padded:
        raise Refuse(f"{label(node)} pads its input with zeros: at the border the norm's shift B would be missing")


def _scale_weight(node: ir.Node, weight: Array, channels: Array, shift: Vector | None, draft: Draft) -> Rewrite:
    value = required(node, 1)
    rewrites = [constant_edit(node, 1, weight, channels, value, value.name or "", draft)]
    if shift is not None and np.any(shift):
        rewrites += bias_plan(node, np.ones_like(shift), shift, draft)
    return together(RULE, f"folded forward into {label(node)}", rewrites)
