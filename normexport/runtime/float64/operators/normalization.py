"""Normalizations, and dropout, which at inference does nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from normexport.runtime.float64.registry import Call, Unsupported, operator
from normexport.runtime.float64.room import require_room


def _per_channel(v: Any, x: Any) -> Any:
    return v.reshape(-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else v


def _affine(x: Any, mean: Any, var: Any, scale: Any, bias: Any, epsilon: float) -> Any:
    """scale * (x - mean) / sqrt(var + epsilon) + bias with one big temporary."""
    y = x - mean
    y *= scale / np.sqrt(var + epsilon)
    y += bias
    return y


@operator("BatchNormalization")
def batch_normalization_early(call: Call, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    """Up to opset 6 without `is_test` the statistics are the batch's own, `spatial` = 0 has one per element."""
    if not call["is_test"]:
        raise Unsupported("BatchNormalization in training mode (is_test = 0)")
    return _running(call, x, scale, bias, mean, var)


@operator("BatchNormalization", since=7)
def batch_normalization(call: Call, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    """By the running statistics: opsets 7 to 13 say training by outputs 1 to 4, which inference never has."""
    if any(call.outputs[1:]):
        raise Unsupported("BatchNormalization in training mode (more than one output)")
    return _running(call, x, scale, bias, mean, var)


def _running(call: Call, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    if call["spatial"] == 0:
        mean, var, scale, bias = (v.reshape(x.shape[1:]) for v in (mean, var, scale, bias))
    else:
        mean, var, scale, bias = (_per_channel(v, x) for v in (mean, var, scale, bias))
    return _affine(x, mean, var, scale, bias, call["epsilon"])


@operator("BatchNormalization", since=14)
def batch_normalization_modes(call: Call, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    """By the running statistics; in `training_mode` by the batch's, and the running ones move."""
    if not call["training_mode"]:
        return _running(call, x, scale, bias, mean, var)
    axes = tuple(i for i in range(x.ndim) if i != 1)
    own_mean, own_var, momentum = x.mean(axis=axes), x.var(axis=axes), call["momentum"]
    y = _running(call, x, scale, bias, own_mean, own_var)
    return y, mean * momentum + own_mean * (1 - momentum), var * momentum + own_var * (1 - momentum)


@operator("InstanceNormalization")
def instance_normalization(call: Call, x: Any, scale: Any, bias: Any) -> Any:
    axes = tuple(range(2, x.ndim))
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return _affine(x, mean, var, _per_channel(scale, x), _per_channel(bias, x), call["epsilon"])


@operator("LayerNormalization")
def layer_normalization(call: Call, x: Any, scale: Any, bias: Any = None) -> Any:
    axes = tuple(range(call["axis"] % x.ndim, x.ndim))
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(var + call["epsilon"])
    y = (x - mean) * inverse * scale
    return (y if bias is None else y + bias), mean, inverse


@operator("RMSNormalization")
def rms_normalization(call: Call, x: Any, scale: Any) -> Any:
    axes = tuple(range(call["axis"] % x.ndim, x.ndim))
    return x / np.sqrt((x * x).mean(axis=axes, keepdims=True) + call["epsilon"]) * scale


@operator("GroupNormalization", since=18)
def group_normalization(call: Call, x: Any, scale: Any, bias: Any) -> Any:
    """scale and bias are per group in opset 18 to 20, per channel from 21 on."""
    groups = call["num_groups"]
    grouped = x.reshape(x.shape[0], groups, -1)
    mean, var = grouped.mean(axis=2, keepdims=True), grouped.var(axis=2, keepdims=True)
    y = ((grouped - mean) / np.sqrt(var + call["epsilon"])).reshape(x.shape)
    if call.version < 21:
        scale, bias = (np.repeat(v, x.shape[1] // groups) for v in (scale, bias))
    return y * _per_channel(scale, x) + _per_channel(bias, x)


@operator("LRN")
def lrn(call: Call, x: Any) -> Any:
    """x / (bias + alpha/size * sum of squares over `size` neighbouring channels)^beta."""
    size = call["size"]
    before, after = (size - 1) // 2, size // 2
    require_room([x.shape[0], x.shape[1] + size, *x.shape[2:]], "LRN")
    squares = np.pad(x * x, [(0, 0), (before, after), *[(0, 0)] * (x.ndim - 2)])
    sums = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return x / (call["bias"] + call["alpha"] / size * sums) ** call["beta"]


@operator("LpNormalization")
def lp_normalization(call: Call, x: Any) -> Any:
    """x / |x|_p along an axis; 0 where the norm is 0."""
    norm = np.linalg.norm(x, ord=call["p"], axis=call["axis"], keepdims=True)
    return np.where(norm == 0, 0.0, x / np.where(norm == 0, 1.0, norm))


@operator("MeanVarianceNormalization", since=9)
def mean_variance_normalization(call: Call, x: Any) -> Any:
    axes = tuple(call["axes"] if call["axes"] is not None else (0, 2, 3))
    mean = x.mean(axis=axes, keepdims=True)
    return (x - mean) / (np.sqrt((x * x).mean(axis=axes, keepdims=True) - mean * mean) + 1e-9)


@operator("Dropout")
def dropout_early(call: Call, x: Any) -> Any:
    """Up to opset 6 it is on where `is_test` is 0."""
    if call.version < 7 and not call["is_test"]:
        raise Unsupported("Dropout in training mode (is_test = 0) draws random numbers")
    return x, np.ones(x.shape, dtype=bool if call.version >= 10 else x.dtype)


@operator("Dropout", since=12)
def dropout(_: Call, x: Any, ratio: Any = None, training: Any = None) -> Any:
    if training is not None and bool(training) and (ratio is None or float(ratio) != 0):
        raise Unsupported("Dropout in training mode draws random numbers")
    return x, np.ones(x.shape, dtype=bool)
