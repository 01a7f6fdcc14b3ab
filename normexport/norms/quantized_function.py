"""The ONNX bodies of the integer operators: byte for byte what `quantized_reference` computes.

Sums, maxima and counts are int64, the statistic is float64 from those, and the result float32 with every operation a
node of its own, so that no runtime can round it otherwise. A kind's own text may use `r` (R, n) = q - p and `e` (R, 1)
= n*p - sum q, both int64, one row per statistic, the int64 scalar `n` and `along`, the axis of a row; it defines either
`whole`, `part` and `count` for (whole + part/n) / count, or `stat` (R, 1) itself, in float64.
"""

from __future__ import annotations

import re
from functools import cache

import onnx

from normexport.norms.function import GROUP_COUNT, GROUP_ROWS, GROUP_SHAPE, INSTANCE_ROWS, VIEWS, parse, signature
from normexport.norms.kind import NormKind
from normexport.norms.scope import Scope

_BATCH_ROWS = """
    everything = Size(X)
    channel_list = Shape <start = 1, end = 2>(X)
    channels = Squeeze(channel_list)
    n = Div(everything, channels)
    by_channel = Transpose <perm = [1, 0, 2]>(Xi)
    rows = Flatten <axis = 1>(by_channel)
"""
_INSTANCE_ROWS = "n = Squeeze(spread_out)" + INSTANCE_ROWS.format(of="Xi")
_GROUP_ROWS = GROUP_COUNT + GROUP_ROWS.format(of="Xi")

_PIVOT = """
    along = Constant <value = int64[1] {1}>()
    total = ReduceSum <keepdims = 1>(rows, along)
    total64 = Cast <to = 11>(total)
    n64 = Cast <to = 11>(n)
    average = Div(total64, n64)
    nearest = Round(average)
    pivot = Cast <to = 7>(nearest)
    reach_of_pivot = Mul(n, pivot)
    e = Sub(reach_of_pivot, total)
    r = Sub(rows, pivot)
"""

_MEAN_DEVIATION = """
    whole64 = Cast <to = 11>(whole)
    part64 = Cast <to = 11>(part)
    count64 = Cast <to = 11>(count)
    shared_out64 = Div(part64, n64)
    sum64 = Add(whole64, shared_out64)
    stat = Div(sum64, count64)
"""

# From one row per statistic to (1, C, 1), (N, C, 1) or (N, G, 1, 1).
_BATCH_SPREAD = """
    front_axis = Constant <value = int64[1] {0}>()
    stat_v = Unsqueeze(stat, front_axis)
    pivot_v = Unsqueeze(pivot, front_axis)
    e_v = Unsqueeze(e, front_axis)
"""
_INSTANCE_SPREAD = """
    one_after = Constant <value = int64[2] {0, 1}>()
    unit = Constant <value = int64 {1}>()
    nc1 = Pad(sample_channel, one_after, unit)
    stat_v = Reshape(stat, nc1)
    pivot_v = Reshape(pivot, nc1)
    e_v = Reshape(e, nc1)
"""
_GROUP_SPREAD = (
    GROUP_SHAPE
    + """
    stat_v = Reshape(stat, per_row)
    pivot_v = Reshape(pivot, per_row)
    e_v = Reshape(e, per_row)
"""
)

#: The text that finds n and rows, and that which spreads what belongs to a row over its elements, by scope.
_SCOPES = {
    Scope.BATCH: (_BATCH_ROWS, _BATCH_SPREAD),
    Scope.INSTANCE: (_INSTANCE_ROWS, _INSTANCE_SPREAD),
    Scope.GROUP: (_GROUP_ROWS, _GROUP_SPREAD),
}

_EPILOGUE = """
    own32 = Cast <to = 1>(own)
    given = Constant <value_float: float = @correction>()
    nothing = Constant <value = float {0.0}>()
    is_own = Equal(given, nothing)
    factor = Where(is_own, own32, given)
    stat32 = Cast <to = 1>(stat_v)
    sized = Mul(factor, stat32)
    tiny = Constant <value_float: float = @epsilon>()
    divisor = Add(sized, tiny)
    scale_v = Reshape(scale, per_channel)
    bias_v = Reshape(bias, per_channel)
    a = Div(scale_v, divisor)
    r_v = Sub(Xi, pivot_v)
    steps = Cast <to = 1>(r_v)
    e64 = Cast <to = 11>(e_v)
    offset64 = Div(e64, n64)
    offset = Cast <to = 1>(offset64)
    deviation = Add(steps, offset)
    scaled = Mul(deviation, a)
    shifted = Add(scaled, bias_v)
    is_nan = IsNaN(shifted)
    told = Where(is_nan, nothing, shifted)
    least = Constant <value = float {-128.0}>()
    most = Constant <value = float {127.0}>()
    clipped = Clip(told, least, most)
    even = Round(clipped)
    y = Cast <to = 3>(even)
    Y = Reshape(y, shape)
"""


@cache
def quantized_function(kind: NormKind, scope: Scope) -> onnx.FunctionProto:
    """Body of `kind.quantized_op(scope)`: (X int8 (N, C, *), scale float32 (C), bias float32 (C)) -> Y int8."""
    rows, spread = _SCOPES[scope]
    statistic = kind.onnx_integer_statistic
    view, per_channel = VIEWS[scope]
    steps = [
        view.format(of="X"),
        "Xi = Cast <to = 7>(Xv)",
        per_channel,
        rows,
        _PIVOT,
        _in_float64(kind.onnx_constant),
        statistic,
    ]
    if "stat = " not in statistic:
        steps.append(_MEAN_DEVIATION)
    return parse(signature(kind, scope, kind.quantized_op(scope)), "\n".join([*steps, spread, _EPILOGUE]))


def _in_float64(constant: str) -> str:
    """The text of a kind's own constant, computed in float64 and not in the dtype of `scale`."""
    return re.sub(r"\bscale\b", "n64", constant)
