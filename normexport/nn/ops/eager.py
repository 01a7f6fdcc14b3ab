"""What `live_formula` computes, written into a result that is there: every operator less is a pass over x less."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normexport.nn.ops.live_formula import How, Layout, Pull, Three, measure, norm, slope
from normexport.norms.kind import beside


def norm_into(y: Tensor, x: Tensor, scale: Tensor, bias: Tensor, *how: Any) -> tuple[Tensor, Tensor]:
    """`live_formula.norm` with its result in y, like x: (mean, stat)."""
    given = How(*how)
    layout = given.layout
    if given.of_kind.torch_slope is None:
        made, mean, stat = norm(x, scale, bias, *how)
        y.copy_(made)
        return mean, stat
    mean, d, stat = measure(layout.rows(x), given)
    out = _rows_of(y, layout)
    out = d if out is None else out
    torch.mul(d, layout.of_channels(scale, x) / beside(stat + given.epsilon, d), out=out)
    out.add_(layout.of_channels(bias, x))
    if out is d:
        y.copy_(layout.unrows(d, y))
    return layout.statistics(mean, x), layout.statistics(stat, x)


def gradient_into(
    dx: Tensor, grads: Three, x: Tensor, scale: Tensor, statistics: tuple[Tensor, Tensor], *how: Any
) -> tuple[Tensor, Tensor]:
    """`live_formula.gradient` with the first result in dx, like x: (dscale, dbias)."""
    given = How(*how)
    pull = Pull.of(grads, x, scale, statistics, given)
    rows = _rows_of(dx, given.layout)
    out = torch.mul(pull.g, pull.a, out=torch.empty_like(pull.d) if rows is None else rows)
    # Elsewhere than on the CPU its question would stop us.
    add_slope = given.of_kind.torch_add_slope if x.device.type == "cpu" else None
    total = None if add_slope is None else add_slope(out, pull.d, pull.worth, **given.parameters)
    if total is None:
        slopes, total = slope(pull.d, pull.worth, given)
        out.add_(slopes.add_(beside(pull.shift(total), out)))
    else:
        out.add_(beside(pull.shift(total), out))
    if rows is None:
        dx.copy_(given.layout.unrows(out, dx))
    return pull.dscale, pull.dbias


def _rows_of(y: Tensor, layout: Layout) -> Tensor | None:
    """The rows of y, to be written; None where they would be a copy."""
    rows = layout.rows(y)
    return rows if rows.untyped_storage().data_ptr() == y.untyped_storage().data_ptr() else None
