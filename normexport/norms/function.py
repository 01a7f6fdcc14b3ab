"""The ONNX form of a live norm: function body and schema, put together from what its kind supplies.

A body reads X as (N, C, S), S the product of the spatial sizes (1 where there are none), computes in the
dtype of `scale` (float32; float64 for references) and casts the result back like X. A kind's own text may use
`d` (N, C, S) centred, `rows` (R, n) the same as one row per statistic, `axes`, the int64 scalar `n` of elements
reduced and the scalar `constant`; it defines `own` and `stat`.

Shapes are built by padding a shape tensor with zeros ("copy this dimension") rather than with -1, which ONNX
Runtime can't infer for an empty batch, nor by Concat, which it rewrites to -1.
"""

from __future__ import annotations

from functools import cache

import onnx
import onnx.parser

from normexport.norms.kind import EPSILON_DEFAULT, NormKind
from normexport.norms.scope import Scope

DOMAIN, VERSION, OPSET, IR_VERSION = "normexport", 1, 20, 10

_AS_NCS = """
    Xc = CastLike(X, {like})
    shape = Shape(X)
    space = Shape <start = 2>(X)
    spread_out = ReduceProd <keepdims = 1>(space)
    two_before = Constant <value = int64[2] {{2, 0}}>()
    ncs = Pad(spread_out, two_before)
    X3 = Reshape(Xc, ncs)
    per_channel = Constant <value = int64[3] {{1, -1, 1}}>()
"""

_CENTRED = """
    mean = ReduceMean <keepdims = 1>(X3, axes)
    d = Sub(X3, mean)
    given = Constant <value_float: float = @correction>()
    given_like = CastLike(given, scale)
    nothing = Sub(given_like, given_like)
    is_own = Equal(given_like, nothing)
    {own}
    constant = Where(is_own, own, given_like)
"""

_BATCH = """
    axes = Constant <value = int64[2] {0, 2}>()
    everything = Size(X3)
    channel_list = Shape <start = 1, end = 2>(X)
    channels = Squeeze(channel_list)
    n = Div(everything, channels)
"""
_BATCH_ROWS = """
    by_channel = Transpose <perm = [1, 0, 2]>(d)
    rows = Flatten <axis = 1>(by_channel)
"""
_BATCH_STAT = """
    to_front = Constant <value = int64[1] {0}>()
    statistic = Unsqueeze(stat, to_front)
"""

_INSTANCE = """
    axes = Constant <value = int64[1] {2}>()
    n = Squeeze(spread_out)
"""
#: X's statistics one per row: `rows` (N*C, S) of the (N, C, S) tensor {of}.
INSTANCE_ROWS = """
    sample_channel = Shape <start = 0, end = 2>(X)
    row_count = ReduceProd <keepdims = 1>(sample_channel)
    zero_after = Constant <value = int64[2] {{0, 1}}>()
    zero_before = Constant <value = int64[2] {{1, 0}}>()
    count_zero = Pad(row_count, zero_after)
    zero_length = Pad(spread_out, zero_before)
    row_shape = Add(count_zero, zero_length)
    rows = Reshape({of}, row_shape)
"""
# TensorRT pads shapes with zeros only: the one is added.
_INSTANCE_STAT = """
    one_after = Constant <value = int64[2] {0, 1}>()
    unit = Constant <value = int64[3] {0, 0, 1}>()
    without_space = Pad(sample_channel, one_after)
    stat_shape = Add(without_space, unit)
    statistic = Reshape(stat, stat_shape)
"""

#: The text that finds axes and n, rows, and the statistic in the shape of X, by scope.
_SCOPES = {
    Scope.BATCH: (_BATCH, _BATCH_ROWS, _BATCH_STAT),
    Scope.INSTANCE: (_INSTANCE, INSTANCE_ROWS.format(of="d"), _INSTANCE_STAT),
}

# Scale and divisor meet per channel, not per element: one pass over memory less, which in ONNX Runtime on a CPU is 7 to
# 30 % of the norm.
_NORMALIZED = """
    tiny = Constant <value_float: float = @epsilon>()
    tiny_like = CastLike(tiny, scale)
    divisor = Add({statistic}, tiny_like)
    scale3 = Reshape(scale, per_channel)
    bias3 = Reshape(bias, per_channel)
    slope = Div(scale3, divisor)
    scaled = Mul(d, slope)
    shifted = Add(scaled, bias3)
    y = Reshape(shifted, shape)
    Y = CastLike(y, X)
"""

#: As versions up to 0.2 wrote it: files of theirs are as good as ours.
_NORMALIZED_BEFORE = _NORMALIZED.replace(
    """    scale3 = Reshape(scale, per_channel)
    bias3 = Reshape(bias, per_channel)
    slope = Div(scale3, divisor)
    scaled = Mul(d, slope)
""",
    """    z = Div(d, divisor)
    scale3 = Reshape(scale, per_channel)
    bias3 = Reshape(bias, per_channel)
    scaled = Mul(z, scale3)
""",
)

_RUNNING = """
    mean3 = Reshape(mean, per_channel)
    inv_scale3 = Reshape(inv_scale, per_channel)
    scale3 = Reshape(scale, per_channel)
    bias3 = Reshape(bias, per_channel)
    d = Sub(X3, mean3)
    z = Mul(d, inv_scale3)
    scaled = Mul(z, scale3)
    shifted = Add(scaled, bias3)
    y = Reshape(shifted, shape)
    Y = CastLike(y, X)
"""


def parse(form: str, body: str) -> onnx.FunctionProto:
    """A function of this domain from its text: `form` as `signature` writes it, and its nodes."""
    text = f'<opset_import: ["" : {OPSET}], domain: "{DOMAIN}"> {form} {{ {body} }}'
    return onnx.parser.parse_function(text)


def signature(kind: NormKind, op: str) -> str:
    """Name, attributes with their defaults, inputs and output of a live norm's operator."""
    parameters = "".join(f", {name}: int = {value}" for name, value in kind.parameters.items())
    attributes = f"epsilon: float = {EPSILON_DEFAULT:f}, correction: float = 0.0{parameters}"
    return f"{op} <{attributes}> (X, scale, bias) => (Y)"


@cache
def live_function(kind: NormKind, scope: Scope) -> onnx.FunctionProto:
    """Body of `kind.op(scope)`: (X (N, C, *), scale (C), bias (C)) -> Y, statistics computed from X."""
    return _live_function(kind, scope, _NORMALIZED)


@cache
def earlier_live_function(kind: NormKind, scope: Scope) -> onnx.FunctionProto:
    """The body that versions up to 0.2 gave the operator: the same numbers, rounded elsewhere."""
    return _live_function(kind, scope, _NORMALIZED_BEFORE)


def _live_function(kind: NormKind, scope: Scope, normalized: str) -> onnx.FunctionProto:
    axes, rows, stat = _SCOPES[scope]
    steps = [_AS_NCS.format(like="scale"), axes, _CENTRED.format(own=kind.onnx_constant)]
    if kind.by_rows:
        steps += [rows, kind.onnx_statistic, stat, normalized.format(statistic="statistic")]
    else:
        steps += [kind.onnx_statistic, normalized.format(statistic="stat")]
    return parse(signature(kind, kind.op(scope)), "\n".join(steps))


@cache
def running_function() -> onnx.FunctionProto:
    """Body of RunningNorm: Y = (X - mean) * inv_scale * scale + bias per channel, axis 1."""
    form = 'RunningNorm <kind: string = ""> (X, mean, inv_scale, scale, bias) => (Y)'
    return parse(form, _AS_NCS.format(like="mean") + _RUNNING)
