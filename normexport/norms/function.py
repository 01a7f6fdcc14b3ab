"""The ONNX form of a live norm: function body and schema, put together from what its kind supplies.

A body views X as (N, C, S), S the product of the spatial sizes (1 where there are none), or as (N, G, C/G, S) where
channels are in G groups; it computes in the dtype of `scale` (float32; float64 for references) and casts the result
back like X. A kind's own text may use `d`, the view centred, `rows` (R, n) the same as one row per statistic, `axes`,
the int64 scalar `n` of elements reduced and the scalar `constant`; it defines `own` and `stat`.

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

CAST = "Xc = CastLike(X, {like})"
#: From X its sizes, and the view (N, C, S) of a tensor of its shape, {of}.
_AS_NCS = """
    shape = Shape(X)
    space = Shape <start = 2>(X)
    spread_out = ReduceProd <keepdims = 1>(space)
    two_before = Constant <value = int64[2] {{2, 0}}>()
    view = Pad(spread_out, two_before)
    Xv = Reshape({of}, view)
"""
_ON_AXIS_1 = "per_channel = Constant <value = int64[3] {1, -1, 1}>()"
#: The same in groups: the view (N, G, C/G, S).
_AS_NGCS = """
    shape = Shape(X)
    space = Shape <start = 2>(X)
    spread_out = ReduceProd <keepdims = 1>(space)
    group_number = Constant <value_int: int = @num_groups>()
    as_list = Constant <value = int64[1] {{0}}>()
    groups = Unsqueeze(group_number, as_list)
    channel_list = Shape <start = 1, end = 2>(X)
    group_size = Div(channel_list, groups)
    groups_at = Constant <value = int64[2] {{1, 2}}>()
    groups_alone = Pad(groups, groups_at)
    size_at = Constant <value = int64[2] {{2, 1}}>()
    size_alone = Pad(group_size, size_at)
    space_at = Constant <value = int64[2] {{3, 0}}>()
    space_alone = Pad(spread_out, space_at)
    channels_alone = Add(groups_alone, size_alone)
    view = Add(channels_alone, space_alone)
    Xv = Reshape({of}, view)
"""
_ON_AXES_1_AND_2 = """
    but_groups = Constant <value = int64[4] {1, 0, -1, 1}>()
    per_channel = Add(groups_alone, but_groups)
"""

#: The deviations of {of} from its mean, and the {constant} that the statistic is multiplied by.
CENTRED = """
    mean = ReduceMean <keepdims = 1>({of}, axes)
    d = Sub({of}, mean)
    {constant}
"""
#: The attribute, or where that is 0 the kind's {own}.
OWN_OR_CORRECTED = """
    given = Constant <value_float: float = @correction>()
    given_like = CastLike(given, scale)
    nothing = Sub(given_like, given_like)
    is_own = Equal(given_like, nothing)
    {own}
    constant = Where(is_own, own, given_like)
"""
CORRECTED = """
    given = Constant <value_float: float = @correction>()
    constant = CastLike(given, scale)
"""

_BATCH = """
    axes = Constant <value = int64[2] {0, 2}>()
    everything = Size(Xv)
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
#: `rows` (row_count, LENGTH) of the view {of}.
_ROWS = """    zero_after = Constant <value = int64[2] {{0, 1}}>()
    zero_before = Constant <value = int64[2] {{1, 0}}>()
    count_zero = Pad(row_count, zero_after)
    zero_length = Pad(LENGTH, zero_before)
    row_shape = Add(count_zero, zero_length)
    rows = Reshape({of}, row_shape)
"""
#: X's statistics one per row: `rows` (N*C, S) of the (N, C, S) tensor {of}.
INSTANCE_ROWS = """
    sample_channel = Shape <start = 0, end = 2>(X)
    row_count = ReduceProd <keepdims = 1>(sample_channel)
""" + _ROWS.replace("LENGTH", "spread_out")
# TensorRT pads shapes with zeros only: the one is added.
_INSTANCE_STAT = """
    one_after = Constant <value = int64[2] {0, 1}>()
    unit = Constant <value = int64[3] {0, 0, 1}>()
    without_space = Pad(sample_channel, one_after)
    stat_shape = Add(without_space, unit)
    statistic = Reshape(stat, stat_shape)
"""

#: n of a group norm, an int64 scalar.
GROUP_COUNT = """
    group_elements = Mul(group_size, spread_out)
    n = Squeeze(group_elements)
"""
_GROUP = f"axes = Constant <value = int64[2] {{2, 3}}>() {GROUP_COUNT}"
#: X's statistics one per row: `rows` (N*G, C/G*S) of the view {of}.
GROUP_ROWS = """
    samples = Shape <start = 0, end = 1>(X)
    row_count = Mul(samples, groups)
""" + _ROWS.replace("LENGTH", "group_elements")
#: `per_row`, the shape (N, G, 1, 1) of what a group has one of.
GROUP_SHAPE = """
    samples_at = Constant <value = int64[2] {0, 3}>()
    samples_alone = Pad(samples, samples_at)
    samples_groups = Add(samples_alone, groups_alone)
    units = Constant <value = int64[4] {0, 0, 1, 1}>()
    per_row = Add(samples_groups, units)
"""
_GROUP_STAT = GROUP_SHAPE + "statistic = Reshape(stat, per_row)"

#: The text that views {of}, and that of `per_channel`, the shape of scale there, by scope.
VIEWS = {
    Scope.BATCH: (_AS_NCS, _ON_AXIS_1),
    Scope.INSTANCE: (_AS_NCS, _ON_AXIS_1),
    Scope.GROUP: (_AS_NGCS, _ON_AXES_1_AND_2),
}
#: The text that finds axes and n, rows, and the statistic in the shape of X, by scope.
_SCOPES = {
    Scope.BATCH: (_BATCH, _BATCH_ROWS, _BATCH_STAT),
    Scope.INSTANCE: (_INSTANCE, INSTANCE_ROWS.format(of="d"), _INSTANCE_STAT),
    Scope.GROUP: (_GROUP, GROUP_ROWS.format(of="d"), _GROUP_STAT),
}

# Scale and divisor meet per channel, not per element: one pass over memory less, which in ONNX Runtime on a CPU is 7 to
# 30 % of the norm.
NORMALIZED = """
    tiny = Constant <value_float: float = @epsilon>()
    tiny_like = CastLike(tiny, scale)
    divisor = Add({statistic}, tiny_like)
    scale_v = Reshape(scale, per_channel)
    bias_v = Reshape(bias, per_channel)
    slope = Div(scale_v, divisor)
    scaled = Mul(d, slope)
    shifted = Add(scaled, bias_v)
"""
_BACK = """
    y = Reshape(shifted, shape)
    Y = CastLike(y, X)
"""

#: As versions up to 0.2 wrote it: files of theirs are as good as ours.
_NORMALIZED_BEFORE = NORMALIZED.replace(
    """    scale_v = Reshape(scale, per_channel)
    bias_v = Reshape(bias, per_channel)
    slope = Div(scale_v, divisor)
    scaled = Mul(d, slope)
""",
    """    z = Div(d, divisor)
    scale_v = Reshape(scale, per_channel)
    bias_v = Reshape(bias, per_channel)
    scaled = Mul(z, scale_v)
""",
)

_RUNNING = """
    mean_v = Reshape(mean, per_channel)
    inv_scale_v = Reshape(inv_scale, per_channel)
    scale_v = Reshape(scale, per_channel)
    bias_v = Reshape(bias, per_channel)
    d = Sub(Xv, mean_v)
    z = Mul(d, inv_scale_v)
    scaled = Mul(z, scale_v)
    shifted = Add(scaled, bias_v)
"""


def parse(form: str, body: str) -> onnx.FunctionProto:
    """A function of this domain from its text: `form` as `signature` writes it, and its nodes."""
    text = f'<opset_import: ["" : {OPSET}], domain: "{DOMAIN}"> {form} {{ {body} }}'
    return onnx.parser.parse_function(text)


def signature(kind: NormKind, scope: Scope, op: str) -> str:
    """Name, attributes with their defaults, inputs and output of a live norm's operator."""
    own = {**kind.parameters, **scope.parameters}
    parameters = "".join(f", {name}: int = {value}" for name, value in own.items())
    attributes = f"epsilon: float = {EPSILON_DEFAULT:f}, correction: float = 0.0{parameters}"
    return f"{op} <{attributes}> (X, scale, bias) => (Y)"


@cache
def live_function(kind: NormKind, scope: Scope) -> onnx.FunctionProto:
    """Body of `kind.op(scope)`: (X (N, C, *), scale (C), bias (C)) -> Y, statistics computed from X."""
    return _live_function(kind, scope, NORMALIZED)


@cache
def earlier_live_function(kind: NormKind, scope: Scope) -> onnx.FunctionProto:
    """The body that versions up to 0.2 gave the operator: the same numbers, rounded elsewhere."""
    return _live_function(kind, scope, _NORMALIZED_BEFORE)


def _live_function(kind: NormKind, scope: Scope, normalized: str) -> onnx.FunctionProto:
    axes, rows, stat = _SCOPES[scope]
    view, per_channel = VIEWS[scope]
    steps = [
        CAST.format(like="scale"),
        view.format(of="Xc"),
        per_channel,
        axes,
        CENTRED.format(of="Xv", constant=OWN_OR_CORRECTED.format(own=kind.onnx_constant)),
    ]
    if kind.by_rows:
        steps += [rows, kind.onnx_statistic, stat, normalized.format(statistic="statistic")]
    else:
        steps += [kind.onnx_statistic, normalized.format(statistic="stat")]
    return parse(signature(kind, scope, kind.op(scope)), "\n".join([*steps, _BACK]))


@cache
def running_function() -> onnx.FunctionProto:
    """Body of RunningNorm: Y = (X - mean) * inv_scale * scale + bias per channel, axis 1."""
    form = 'RunningNorm <kind: string = ""> (X, mean, inv_scale, scale, bias) => (Y)'
    return parse(form, "\n".join([CAST.format(like="mean"), _AS_NCS.format(of="Xc"), _ON_AXIS_1, _RUNNING, _BACK]))
