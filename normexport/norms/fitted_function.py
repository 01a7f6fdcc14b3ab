"""Bodies for calls that are known: what the operator's own body computes, without a view of X.

`function` writes bodies that serve every rank, by a view as (N, C, S) whose sizes are computed at each run. Where the
rank is known, the axes are constants and X stays as it is; where every call says its constant, none is computed from
the number of elements. ONNX Runtime takes as long as for a norm that is written in ordinary operators, in place of 1.13
times as long (`benchmarks/recognised_norms.py`).
"""

from __future__ import annotations

from functools import cache

import onnx

from normexport.norms.calls import Calls
from normexport.norms.function import CAST, CENTRED, CORRECTED, NORMALIZED, OWN_OR_CORRECTED, parse, signature
from normexport.norms.kind import NormKind
from normexport.norms.scope import Scope

#: Numbers of axes that a body may be for, by scope; others have the body of every rank, as groups of channels do.
RANKS: dict[Scope, range] = {Scope.BATCH: range(2, 6), Scope.INSTANCE: range(3, 6), Scope.GROUP: range(0)}

_AXES = """
    axes = Constant <value = int64[{count}] {{{axes}}}>()
    per_channel = Constant <value = int64[{rank}] {{{per_channel}}}>()
"""
#: By scope: n, and `rows` and `statistic` where a kind is computed by rows.
_SCOPES = {
    Scope.BATCH: (
        """
    everything = Size(Xc)
    channel_list = Shape <start = 1, end = 2>(X)
    channels = Squeeze(channel_list)
    n = Div(everything, channels)
""",
        """
    by_channel = Transpose <perm = [{perm}]>(d)
    rows = Flatten <axis = 1>(by_channel)
""",
        "statistic = Reshape(stat, per_channel)",
    ),
    Scope.INSTANCE: (
        """
    space = Shape <start = 2>(X)
    n = ReduceProd <keepdims = 0>(space)
""",
        "rows = Flatten <axis = 2>(d)",
        """
    stat_shape = Shape(mean)
    statistic = Reshape(stat, stat_shape)
""",
    ),
}


@cache
def fitted_function(kind: NormKind, scope: Scope, calls: Calls) -> onnx.FunctionProto:
    """Body of `kind.op(scope)` for such calls, their rank one of `RANKS`: (X, scale (C), bias (C)) -> Y."""
    rank, space = calls.rank, range(2, calls.rank)
    own = OWN_OR_CORRECTED.format(own=kind.onnx_constant)
    constant = f"{kind.onnx_constant} {CORRECTED}" if calls.corrected else own
    count, rows, statistic = _SCOPES[scope]
    reduced = [*([0] if scope is Scope.BATCH else []), *space]
    view = _AXES.format(
        count=len(reduced), axes=_listed(reduced), rank=rank, per_channel=_listed([1, -1, *(1 for _ in space)])
    )
    steps = [CAST.format(like="scale"), view, count, CENTRED.format(of="Xc", constant=constant)]
    if kind.by_rows:
        steps += [rows.format(perm=_listed([1, 0, *space])), kind.onnx_statistic, statistic]
    else:
        steps += [kind.onnx_statistic]
    steps += [NORMALIZED.format(statistic="statistic" if kind.by_rows else "stat"), "Y = CastLike(shifted, X)"]
    function = parse(signature(kind, scope, kind.op(scope)), "\n".join(steps))
    _drop_unread(function)
    return function


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _drop_unread(function: onnx.FunctionProto) -> None:
    """Take out nodes that no output needs: ONNX Runtime would run them."""
    read = set(function.output)
    kept: list[onnx.NodeProto] = []
    for node in reversed(function.node):
        if read.intersection(node.output):
            kept.append(node)
            read.update(node.input)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del function.node[:]
    function.node.extend(nodes)
