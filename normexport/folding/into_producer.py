"""Into the convolution or linear layer that produces the norm's input.

With z = W*x + b (any linear operator whose output channels lie on axis 1) and y = A*z + B:
    W' = A*W  along the output channels,   b' = A*b + B.
One value for all channels is spread over them. Exact for every group count, dilation, stride and padding: the padding
of the input is not touched. A producer without a bias gets one where B or b needs it.

Refuses: a weight that is not constant or is shared, a bias that is not constant, a channel count that differs
from the norm's (the norm broadcasts), and a layer whose channels are not on the norm's axis: axis 1 for a convolution
and a Gemm, the last one for a MatMul.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.folding.edits import AppendAdd, Rewrite, SetFloat, constant_edit, float_type, together
from normexport.folding.graph import Draft
from normexport.folding.per_channel import Array, PerChannel, Vector
from normexport.graphs.nodes import label, name_of, optional, required
from normexport.graphs.refusal import Refuse

RULE = "producer"


def into_conv(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """Conv: W (C, Cin/g, *k), output channel c in row c whatever the groups."""
    weight, _ = grouped_weight(node, draft)
    norm = fitted(node, weight.shape[0], 1, norm)
    shape = (-1,) + (1,) * (weight.ndim - 1)
    return _scale_weight(node, weight, norm.a.reshape(shape), _index(norm).reshape(shape), norm, draft)


def into_conv_transpose(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """ConvTranspose: W (Cin, C/g, *k), group-major: row r feeds channels j*C/g .. of its group j = r // (Cin/g)."""
    weight, groups = grouped_weight(node, draft)
    rows, per_group = weight.shape[:2]
    norm = fitted(node, groups * per_group, 1, norm)

    def by_row(values: Array) -> Array:
        spread = np.repeat(values.reshape(groups, per_group), rows // groups, axis=0)
        return spread.reshape(rows, per_group, *(1,) * (weight.ndim - 2))

    return _scale_weight(node, weight, by_row(norm.a), by_row(_index(norm)), norm, draft)


def into_gemm(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """Gemm: y = alpha*op(X)@op(W) + beta*C, so W' = A*W by columns of op(W) and C' = A*C + B/beta.

    C broadcasts to (N, C) from any shape; with beta = 0 it has no say, and beta becomes 1.
    """
    weight = matrix(node, draft)
    columns = 0 if node.attributes.get_int("transB", 0) else 1
    norm = fitted(node, weight.shape[columns], 1, norm)
    shape = (-1, 1) if columns == 0 else (1, -1)
    value = required(node, 1)
    rewrites = [
        constant_edit(
            node, 1, weight * norm.a.reshape(shape), _index(norm).reshape(shape), value, value.name or "", draft
        )
    ]
    rewrites += gemm_bias(node, norm.a, norm.b, draft)
    return together(RULE, f"scaled into {label(node)}", rewrites)


def gemm_bias(node: ir.Node, scale: Vector, shift: Vector, draft: Draft) -> list[Rewrite]:
    """Plans that turn Gemm's beta*C into scale*(beta*C) + shift, by column; none where nothing changes."""
    beta, bias = node.attributes.get_float("beta", 1.0), optional(node, 2)
    old = np.zeros(1) if bias is None else draft.constants.array(bias)
    rewrites = []
    if beta == 0.0 or (bias is None and beta != 1.0):
        if not np.any(shift):
            return []
        rewrites.append(Rewrite("", "", (SetFloat(node, "beta", 1.0),)))
        old, beta = np.zeros(1), 1.0
    if old.ndim > 2 or (old.ndim and old.shape[-1] not in (1, len(shift))):
        raise Refuse(f"the bias of {label(node)} has shape {old.shape} and does not broadcast to {len(shift)} columns")
    draft.constants.check_room(old.size if old.shape[-1:] == shift.shape else old.size * len(shift), label(node))
    new = scale * old + shift / beta
    if bias is None and not np.any(new):
        return rewrites
    name = _bias_name(node, bias)
    return [*rewrites, constant_edit(node, 2, new, np.arange(len(shift)), bias or required(node, 1), name, draft)]


def into_matmul(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """MatMul of X (*, K) with W (K, C): W' = A*W by columns, and an Add of B behind it where B is not zero."""
    axis = last_axis(node, draft.shapes.rank(node.outputs[0]))
    value = required(node, 1)
    weight = matrix(node, draft)
    norm = fitted(node, weight.shape[1], axis, norm)
    rewrites = [constant_edit(node, 1, weight * norm.a, _index(norm), value, value.name or "", draft)]
    return with_shift(node, norm.b, rewrites, draft).under(RULE, f"scaled into {label(node)}")


def with_shift(node: ir.Node, shift: Vector, rewrites: list[Rewrite], draft: Draft) -> Rewrite:
    """The rewrites of a MatMul, and an Add of `shift` behind it where it is not zero."""
    rewrite = together("", "", rewrites)
    if not np.any(shift):
        return rewrite
    weight = required(node, 1)
    add = AppendAdd(node.outputs[0], shift, float_type(weight, draft))
    check = constant_edit(node, 1, shift, np.arange(len(shift)), weight, f"{name_of(node)}.bias", draft)
    return Rewrite("", "", (*rewrite.edits, add), (*rewrite.hazards, *check.hazards), rewrite.added + 1)


def grouped_weight(node: ir.Node, draft: Draft) -> tuple[Array, int]:
    """The weight of a convolution, of rank 3 or more, and its groups, which part its rows.

    Raises:
        Refuse: it has another form, or is not the node's own.
    """
    weight, groups = draft.constants.weight(required(node, 1), node), node.attributes.get_int("group", 1)
    if weight.ndim < 3 or groups < 1 or weight.shape[0] % groups:
        raise Refuse(f"the weight of {label(node)} has shape {weight.shape}, with group={groups} no convolution's")
    return weight, groups


def matrix(node: ir.Node, draft: Draft) -> Array:
    """The weight of a Gemm or MatMul, of rank 2.

    Raises:
        Refuse: it has another rank, or is not the node's own.
    """
    value = required(node, 1)
    weight = draft.constants.weight(value, node)
    if weight.ndim != 2:
        raise Refuse(f"the weight '{value.name}' of {label(node)} has rank {weight.ndim}, not 2")
    return weight


def fitted(node: ir.Node, channels: int, axis: int, norm: PerChannel) -> PerChannel:
    """The norm with one number per channel of the node, whose channels lie along `axis`.

    Raises:
        Refuse: the norm is on another axis, or has other channels.
    """
    if norm.channels == 1:
        return norm.spread(channels, axis)
    if norm.axis != axis:
        raise Refuse(f"{label(node)} works on axis {axis}, the norm on axis {norm.axis}")
    if channels != norm.channels:
        raise Refuse(f"{label(node)} has {channels} channels where the norm has {norm.channels}")
    return norm


def last_axis(node: ir.Node, rank: int | None) -> int:
    """The axis that a MatMul works on.

    Raises:
        Refuse: the rank is unknown, or there is no axis beside the batch.
    """
    if rank is None:
        raise Refuse(f"the rank of '{node.outputs[0].name}' ({label(node)}) is unknown")
    if rank < 2:
        raise Refuse(f"{label(node)} works on a single vector")
    return rank - 1


def bias_plan(node: ir.Node, scale: Vector, shift: Vector, draft: Draft) -> list[Rewrite]:
    """Plans that turn a convolution's bias b (zero where absent) into scale*b + shift; none where it stays absent."""
    bias = optional(node, 2)
    old = np.zeros(len(shift)) if bias is None else draft.constants.array(bias)
    if old.shape != (len(shift),):
        raise Refuse(f"the bias of {label(node)} has shape {old.shape}, not ({len(shift)},)")
    new = scale * old + shift
    if bias is None and not np.any(new):
        return []
    like = bias or required(node, 1)
    return [constant_edit(node, 2, new, np.arange(len(shift)), like, _bias_name(node, bias), draft)]


def _scale_weight(
    node: ir.Node, weight: Array, factor: Array, channels: Array, norm: PerChannel, draft: Draft
) -> Rewrite:
    value = required(node, 1)
    rewrites = (
        [constant_edit(node, 1, weight * factor, channels, value, value.name or "", draft)] if norm.scales else []
    )
    rewrites += bias_plan(node, norm.a, norm.b, draft)
    return together(RULE, f"scaled into {label(node)}", rewrites)


def _bias_name(node: ir.Node, bias: ir.Value | None) -> str:
    if bias is not None and bias.name:
        return bias.name
    weight = required(node, 1).name or ""
    return f"{weight.removesuffix('.weight')}.bias" if weight.endswith(".weight") else f"{name_of(node)}.bias"


def _index(norm: PerChannel) -> Array:
    return np.arange(norm.channels)
