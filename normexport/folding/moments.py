"""What the norms of a graph know of its tensors: mean and standard deviation, per channel, before a norm and behind it.

With running statistics mean, stat and a trained scale and bias, y = (x - mean) / stat * scale + bias:
    before:  mean                            std = stat / r
    behind:  bias                            std = |scale| / r
r is what the kind's statistic is of a standard deviation (`NormKind.per_std`): 1 for L2, 0.89 for L1, 1.44 for
L-infinity, whose gamma has absorbed it. A BatchNormalization divides by sqrt(var + epsilon): before, std
is sqrt(var). Statistics taken at inference say what is behind the norm alone; so do LayerNormalization,
InstanceNormalization and GroupNormalization.

Not read: statistics that are not constants or not numbers, chains of Mul and Add, which do not tell mean from bias.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from normexport.folding.constants import Constants
from normexport.folding.per_channel import Vector
from normexport.folding.runs import kind_of
from normexport.graphs.moments import Moments
from normexport.graphs.node_metadata import module_path
from normexport.graphs.nodes import name_of, op
from normexport.graphs.refusal import Refuse
from normexport.norms import DOMAIN, KINDS, Scope, live_ops

#: Operators of ONNX that take statistics at inference: where their scale and bias are, and the channels of the result
#: from the front; -1: from `axis` on.
_LIVE = {"InstanceNormalization": 1, "GroupNormalization": 1, "LayerNormalization": -1}
_EPSILON = float(np.float32(1e-5))


def moments_of_norms(graph: ir.Graph, constants: Constants) -> dict[str, Moments]:
    """Moments by value name; of a value between two norms those that the norm behind it has of what it read."""
    found: dict[str, Moments] = {}
    for node in graph:
        try:
            with np.errstate(all="ignore"):
                for value, moments in _moments_at(node, constants):
                    if value is not None and value.name and moments is not None:
                        found[value.name] = moments
        except Refuse:
            continue
    return found


def _moments_at(node: ir.Node, constants: Constants) -> Iterator[tuple[ir.Value | None, Moments | None]]:
    title, kind = module_path(node) or name_of(node), kind_of(node)
    if op(node) == f"{DOMAIN}::RunningNorm":
        mean, inv_scale, scale, bias = (_vector(node, index, constants) for index in range(1, 5))
        if kind == "mean":  # of a norm that only centres, the spread is not known
            return
        ratio = KINDS[kind].per_std if kind in KINDS else 1.0
        yield node.inputs[0], Moments.of(mean, 1.0 / (inv_scale * ratio), kind=kind, norm=title)
        yield node.outputs[0], Moments.of(bias, scale / ratio, kind=kind, norm=title)
    elif op(node) == "BatchNormalization":
        scale, bias, mean, variance = (_vector(node, index, constants) for index in range(1, 5))
        epsilon = node.attributes.get_float("epsilon", _EPSILON)
        if node.attributes.get_int("training_mode", 0):
            yield node.outputs[0], Moments.of(bias, scale, kind=kind, norm=title)
            return
        std = np.sqrt(variance)
        yield node.inputs[0], Moments.of(mean, std, kind=kind, norm=title)
        yield node.outputs[0], Moments.of(bias, scale * std / np.sqrt(variance + epsilon), kind=kind, norm=title)
    elif node.domain == DOMAIN and node.op_type in live_ops():
        scale, bias = (_vector(node, index, constants) for index in (1, 2))
        alone = Scope.of_op(node.op_type) is Scope.INSTANCE
        yield node.outputs[0], Moments.of(bias, scale / KINDS[kind].per_std, kind=kind, norm=title, per_sample=alone)
    elif op(node) in _LIVE:
        scale = _vector(node, 1, constants)
        bias = _vector(node, 2, constants) if len(node.inputs) > 2 and node.inputs[2] is not None else 0 * scale
        axis = _LIVE[op(node)]
        if axis < 0:
            rank = len(node.outputs[0].shape) if node.outputs[0].shape is not None else 0
            axis = rank - 1
            if node.attributes.get_int("axis", -1) not in (-1, axis) or axis < 1:
                return
        yield node.outputs[0], Moments.of(bias, scale, axis, "l2", title, op(node) == "InstanceNormalization")


def _vector(node: ir.Node, index: int, constants: Constants) -> Vector:
    """Input `index`, a constant (C,).

    Raises:
        Refuse: it is absent, no constant, or of another form.
    """
    array = constants.array(node.inputs[index] if index < len(node.inputs) else None)
    if array.ndim != 1:
        raise Refuse(f"input {index} has {array.ndim} axes")
    return np.asarray(array, np.float64)
