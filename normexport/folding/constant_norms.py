"""Norms of constants: weights that are standardised when they are used, as `F.batch_norm(weight, training=True)` does.

y = (x - mean)/sqrt(variance + epsilon)*scale + bias, mean and (biased) variance of x over the axes that the operator
reduces: BatchNormalization in training all but axis 1, InstanceNormalization those behind it, LayerNormalization `axis`
and what follows, GroupNormalization those behind the channels and the channels of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.folding.per_channel import Array
from normexport.graphs.nodes import label
from normexport.graphs.refusal import Refuse

_EPSILON = 1e-5


def _epsilon(node: ir.Node) -> float:
    return float(np.float32(node.attributes.get_float("epsilon", _EPSILON)))


def _standardised(node: ir.Node, x: Array, axes: tuple[int, ...]) -> Array:
    if any(output.uses() for output in node.outputs[1:]):
        raise Refuse(f"{label(node)} also gives its statistics")
    deviation = x - np.mean(x, axis=axes, keepdims=True)
    variance = np.mean(deviation * deviation, axis=axes, keepdims=True)
    return np.asarray(deviation / np.sqrt(variance + _epsilon(node)))


def _by_channel(values: Any, rank: int) -> Array:
    return np.asarray(np.reshape(values, (-1, *(1,) * (rank - 2))))


def _batch(node: ir.Node, inputs: Sequence[Any]) -> Array:
    if not node.attributes.get_int("spatial", 1):
        raise Refuse(f"{label(node)} has spatial=0: its statistics are per position, not per channel")
    x, scale, bias, mean, variance = inputs[:5]
    if node.attributes.get_int("training_mode", 0) or any(each.name for each in node.outputs[1:]):
        y = _standardised(node, x, (0, *range(2, x.ndim)))
    else:
        y = (x - _by_channel(mean, x.ndim)) / np.sqrt(_by_channel(variance, x.ndim) + _epsilon(node))
    return np.asarray(y * _by_channel(scale, x.ndim) + _by_channel(bias, x.ndim))


def _instance(node: ir.Node, inputs: Sequence[Any]) -> Array:
    x, scale, bias = inputs[:3]
    y = _standardised(node, x, tuple(range(2, x.ndim)))
    return np.asarray(y * _by_channel(scale, x.ndim) + _by_channel(bias, x.ndim))


def _layer(node: ir.Node, inputs: Sequence[Any]) -> Array:
    x, scale = inputs[:2]
    axis = node.attributes.get_int("axis", -1) % x.ndim
    y = _standardised(node, x, tuple(range(axis, x.ndim))) * scale
    return np.asarray(y if len(inputs) < 3 or inputs[2] is None else y + inputs[2])


def _group(node: ir.Node, inputs: Sequence[Any]) -> Array:
    x, scale, bias = inputs[:3]
    groups = node.attributes.get_int("num_groups", 1)
    parts = x.reshape(x.shape[0], groups, -1)
    y = _standardised(node, parts, (2,)).reshape(x.shape)
    if len(scale) != x.shape[1]:  # before opset 21 there was one for each group
        scale, bias = (np.repeat(values, x.shape[1] // groups) for values in (scale, bias))
    return np.asarray(y * _by_channel(scale, x.ndim) + _by_channel(bias, x.ndim))


OPERATORS: dict[str, Callable[[ir.Node, Sequence[Any]], Array]] = {
    "BatchNormalization": _batch,
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "LayerNormalization": _layer,
}


def elements(inputs: Sequence[Any]) -> int:
    """How many numbers evaluating one makes, temporary ones included.

    Raises:
        ValueError: it has not what it computes with.
    """
    if any(each is None for each in inputs[:2]):
        raise ValueError("an input is absent")
    return 3 * int(inputs[0].size)
