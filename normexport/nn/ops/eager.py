"""What `live_formula` computes, written into a result that is there: every operator less is a pass over x less."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normexport.nn.ops.live_formula import Layout, Pull, Three, norm, slope
from normexport.norms import kind as kind_of
from normexport.norms.kind import beside


def norm_into(
    y: Tensor,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    kind: str,
    instance: bool,
    epsilon: float,
    correction: float,
    k: int,
    chunks: int,
    num_groups: int,
) -> tuple[Tensor, Tensor]:
    """`live_formula.norm` with its result in y, like x: (mean, stat)."""
    of_kind, layout = kind_of(kind), Layout(instance, num_groups)
    if of_kind.torch_slope is None:
        made, mean, stat = norm(x, scale, bias, kind, instance, epsilon, correction, k, chunks, num_groups)
        y.copy_(made)
        return mean, stat
    rows = layout.rows(x)
    mean = rows.mean((1, 2, 3))
    d = rows - beside(mean, rows)
    stat = of_kind.torch_statistic(d, k=k, chunks=chunks, correction=correction)
    out = _rows_of(y, layout)
    out = d if out is None else out
    torch.mul(d, layout.of_channels(scale, x) / beside(stat + epsilon, d), out=out)
    out.add_(layout.of_channels(bias, x))
    if out is d:
        y.copy_(layout.unrows(d, y))
    return layout.statistics(mean, x), layout.statistics(stat, x)


def gradient_into(
    dx: Tensor,
    grads: Three,
    x: Tensor,
    scale: Tensor,
    statistics: tuple[Tensor, Tensor],
    kind: str,
    instance: bool,
    epsilon: float,
    correction: float,
    k: int,
    chunks: int,
    num_groups: int,
) -> tuple[Tensor, Tensor]:
    """`live_formula.gradient` with the first result in dx, like x: (dscale, dbias)."""
    of_kind, layout = kind_of(kind), Layout(instance, num_groups)
    pull = Pull.of(layout, grads, x, scale, statistics, epsilon)
    parameters: dict[str, Any] = {"k": k, "chunks": chunks, "correction": correction}
    rows = _rows_of(dx, layout)
    out = torch.mul(pull.g, pull.a, out=torch.empty_like(pull.d) if rows is None else rows)
    add_slope = of_kind.torch_add_slope if x.device.type == "cpu" else None  # elsewhere its question would stop us
    total = None if add_slope is None else add_slope(out, pull.d, pull.worth, **parameters)
    if total is None:
        slopes, total = slope(kind, pull.d, pull.worth, **parameters)
        out.add_(slopes.add_(beside(pull.shift(total), out)))
    else:
        out.add_(beside(pull.shift(total), out))
    if rows is None:
        dx.copy_(layout.unrows(out, dx))
    return pull.dscale, pull.dbias


def _rows_of(y: Tensor, layout: Layout) -> Tensor | None:
    """The rows of y, to be written; None where they would be a copy."""
    rows = layout.rows(y)
    return rows if rows.untyped_storage().data_ptr() == y.untyped_storage().data_ptr() else None
